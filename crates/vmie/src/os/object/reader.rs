//! What objects are read by: memory, types and symbols of one system, and what was looked up in them so far.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use super::error::{ObjectError, Why};
use super::maple::MaplePlan;
use super::percpu::PerCpu;
use super::pointer::BadLink;
use super::route::Route;
use super::xarray::XarrayPlan;
use crate::addr::Gva;
use crate::memory::Memory;
use crate::os::symbols::SymbolTable;
use crate::os::types::{Type, TypeError, TypeId, Types};

/// What was looked up of one type's members.
type Routes = HashMap<Box<str>, Result<Arc<Route>, TypeError>>;

/// Objects in one memory: what [`Object`](super::Object)s are read by.
///
/// It remembers where members are, so one of these is made for a question and not for each object.
pub struct Objects<'m> {
    memory: &'m dyn Memory<Addr = Gva>,
    types: Arc<Types>,
    symbols: Arc<SymbolTable>,
    names: Mutex<HashMap<Box<str>, Result<TypeId, TypeError>>>,
    routes: Mutex<HashMap<TypeId, Routes>>,
    xarray: OnceLock<Result<XarrayPlan, TypeError>>,
    maple: OnceLock<Result<MaplePlan, TypeError>>,
    per_cpu: OnceLock<Result<PerCpu, BadLink>>,
}

impl fmt::Debug for Objects<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects")
            .field("types", &self.types)
            .finish_non_exhaustive()
    }
}

impl<'m> Objects<'m> {
    /// The objects in `memory`, of which `types` says how they look and `symbols` where the first of them are.
    pub fn new(
        memory: &'m dyn Memory<Addr = Gva>,
        types: Arc<Types>,
        symbols: Arc<SymbolTable>,
    ) -> Self {
        Self {
            memory,
            types,
            symbols,
            names: Mutex::default(),
            routes: Mutex::default(),
            xarray: OnceLock::new(),
            maple: OnceLock::new(),
            per_cpu: OnceLock::new(),
        }
    }

    /// The memory that they are in.
    pub fn memory(&self) -> &'m dyn Memory<Addr = Gva> {
        self.memory
    }

    /// How they look.
    pub fn types(&self) -> &Arc<Types> {
        &self.types
    }

    /// Where the first of them are.
    pub fn symbols(&self) -> &Arc<SymbolTable> {
        &self.symbols
    }

    /// Where a symbol is that there is once.
    ///
    /// # Errors
    ///
    /// [`Why::NoSymbol`].
    pub fn address_of(&self, symbol: &str) -> Result<Gva, ObjectError> {
        self.symbols
            .address_of(symbol)
            .ok_or_else(|| ObjectError::new(symbol, None, "", Why::NoSymbol))
    }

    /// Whether there is such a type, and it is defined and not only declared.
    pub fn has_type(&self, name: &str) -> bool {
        let found = self.type_named(name).and_then(|id| self.types.resolve(id));
        !matches!(found, Err(_) | Ok((_, Type::Forward { .. })))
    }

    /// Bytes that a value of a type takes.
    ///
    /// # Errors
    ///
    /// [`Why::Missing`].
    pub fn size_of(&self, name: &str) -> Result<u64, ObjectError> {
        let size = self.type_named(name).and_then(|id| self.types.size_of(id));
        size.map_err(|error| ObjectError::new(name, None, "", Why::Missing(error)))
    }

    /// The value of one of an enum's names, such as `PIDTYPE_PID` of `enum pid_type`.
    ///
    /// # Errors
    ///
    /// [`Why::Missing`].
    pub fn constant(&self, name: &str, value: &str) -> Result<i64, ObjectError> {
        let missing = |error| ObjectError::new(name, None, value, Why::Missing(error));
        let id = self.type_named(name).map_err(missing)?;
        let found = match self.types.resolve(id).map_err(missing)?.1 {
            Type::Enum { values, .. } => values.into_iter().find(|(known, _)| *known == value),
            _ => None,
        };
        found.map(|(_, value)| value).ok_or_else(|| {
            missing(TypeError::NoMember {
                record: name.to_owned(),
                member: value.to_owned(),
            })
        })
    }

    /// The type of this name.
    pub(super) fn type_named(&self, name: &str) -> Result<TypeId, TypeError> {
        let mut names = lock(&self.names);
        if let Some(known) = names.get(name) {
            return known.clone();
        }
        let found = self.types.find(name);
        names.insert(name.into(), found.clone());
        found
    }

    /// Where a path leads from a type on.
    pub(super) fn route(&self, from: TypeId, path: &str) -> Result<Arc<Route>, TypeError> {
        let mut routes = lock(&self.routes);
        let of_type = routes.entry(from).or_default();
        if let Some(known) = of_type.get(path) {
            return known.clone();
        }
        let found = Route::find(&self.types, from, path).map(Arc::new);
        of_type.insert(path.into(), found.clone());
        found
    }

    /// How the nodes of XArrays look.
    pub(super) fn xarray_plan(&self) -> Result<XarrayPlan, TypeError> {
        let look_up = || XarrayPlan::new(&self.types);
        self.xarray.get_or_init(look_up).clone()
    }

    /// How the nodes of maple trees look.
    pub(super) fn maple_plan(&self) -> Result<&MaplePlan, TypeError> {
        let look_up = || MaplePlan::new(&self.types);
        self.maple
            .get_or_init(look_up)
            .as_ref()
            .map_err(TypeError::clone)
    }

    /// Where each CPU has its own copy of variables.
    pub(super) fn areas(&self) -> Result<&PerCpu, BadLink> {
        let look_up = || PerCpu::read(self.memory, &self.symbols);
        self.per_cpu
            .get_or_init(look_up)
            .as_ref()
            .map_err(|bad| *bad)
    }
}

/// What is kept is whole at any moment, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
