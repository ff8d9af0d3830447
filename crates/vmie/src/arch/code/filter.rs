//! Which vector units of this machine look at code: the machine that vmie runs on, not the guest's.

/// Ways to filter; they differ in speed only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FilterKind {
    /// Whatever the compiler makes of it.
    Portable,
    /// Eight positions at once.
    Avx2,
    /// Sixteen positions at once.
    Avx512,
}

impl FilterKind {
    /// All of them, the slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The fastest that this machine can run.
    pub(crate) fn best() -> Self {
        let mut all = Self::ALL.into_iter().rev();
        all.find(|kind| kind.is_available())
            .unwrap_or(Self::Portable)
    }
}
