//! Objects of the guest's programs, taken apart: the fields that their source declares.

use std::sync::Arc;

use vmie::Gva;
use vmie::dissect::{Comparison, Dissector, Field, Kind, Value};
use vmie::pointers::Width;
use vmie_lab::Program;

use crate::objects::objects;
use crate::support::{each_image, space};

fn pointer(program: &Program, name: &str) -> u64 {
    let value = program.value(name).unwrap_or_else(|| panic!("no {name}"));
    u64::from_le_bytes(value.bytes.clone().try_into().expect("eight bytes"))
}

/// Where a value or changing value is in its object.
fn offset(program: &Program, name: &str, object: u64) -> u64 {
    let tick = || {
        program
            .ticks
            .iter()
            .find(|tick| tick.name == name)
            .map(|tick| tick.va)
    };
    let va = program.value(name).map(|value| value.va).or_else(tick);
    va.unwrap_or_else(|| panic!("no {name}")) - object
}

fn at<'f>(fields: &'f [Field], offset: u64, what: &str) -> &'f Field {
    let found = fields.iter().find(|field| field.offset == offset);
    found.unwrap_or_else(|| panic!("{what}: no field at {offset:#x} in {fields:#?}"))
}

fn common(all: &Comparison<Gva>) -> Vec<Field> {
    all.fields.iter().map(|one| one.field.clone()).collect()
}

#[test]
fn objects_have_the_fields_that_their_source_declares() {
    each_image(|snapshot, image, name| {
        let mut checked = 0;
        for program in objects(&snapshot.programs().expect("readable")) {
            let what = format!("{name} {}", program.name);
            let root = snapshot.root_of(program.pid).expect("it runs");
            let space = space(snapshot, Arc::clone(&image), root);
            let mut dissector = Dissector::new(&space, Width::Eight);

            for (class, slots) in [("World", 2), ("Player", 4), ("Monster", 5)] {
                let table = dissector
                    .vtable(Gva(program.vtables[class]))
                    .expect("a table");
                let rtti = table.rtti.expect("named");
                assert_eq!((rtti.class.as_str(), rtti.base), (class, 0), "{what}");
                assert_eq!(table.slots, slots, "{what} {class}");
            }
            let second = dissector.vtable(Gva(program.vtables["Monster.Talker"]));
            let second = second.and_then(|table| table.rtti).expect("named");
            assert_eq!(second.class, "Monster", "{what}");
            assert!(second.base > 8 && second.base < program.sizes["Monster"]);

            let world = pointer(program, "g_world");
            let player = pointer(program, "world.actors.0");
            let wolf = pointer(program, "world.actors.1");
            let bat = pointer(program, "world.actors.3");

            // The world: a vector, pointers to objects of two classes, text that is pointed at.
            let fields = dissector.instance(Gva(world), program.sizes["World"]);
            assert_eq!(at(&fields, 0, &what).kind, Kind::Vtable);
            let banner = at(&fields, offset(program, "world.banner", world), &what);
            assert_eq!(banner.kind, Kind::String, "{what}");
            assert!(banner.detail.contains("vmie lab:"), "{what}: {banner:?}");
            for (index, class) in [(0, "Player"), (1, "Monster"), (3, "Monster")] {
                let value = format!("world.actors.{index}");
                let field = at(&fields, offset(program, &value, world), &what);
                assert_eq!(
                    (field.kind, field.detail.as_str()),
                    (Kind::Object, class),
                    "{what}"
                );
            }
            let tree = offset(program, "world.tree", world);
            assert_eq!(at(&fields, tree, &what).kind, Kind::Pointer, "{what}");
            let crowd = at(&fields, tree + 8, &what);
            assert_eq!(crowd.kind, Kind::StdVector, "{what}: {crowd:?}");
            assert_eq!(crowd.value, Value::Room { used: 32, room: 32 }, "{what}");

            // The player on its own.
            let fields = dissector.instance(Gva(player), program.sizes["Player"]);
            let field = |value: &str| at(&fields, offset(program, value, player), &what);
            assert_eq!(field("player.world").detail, "World", "{what}");
            assert_eq!(field("player.target").detail, "Monster", "{what}");
            assert_eq!(field("player.inventory").kind, Kind::Pointer, "{what}");
            for (value, is) in [
                ("player.id", Value::Integer(7)),
                ("player.score", Value::Integer(-17)),
                ("player.health", Value::Float(87.5)),
            ] {
                assert_eq!(field(value).value, is, "{what} {value}");
            }
            assert_eq!(field("player.energy").kind, Kind::Double, "{what}");
            let string = offset(program, "player.energy", player) + 8;
            let string = at(&fields, string, &what);
            assert_eq!(string.kind, Kind::StdString, "{what}: {string:?}");
            assert_eq!(string.value, Value::Text("Ada".to_owned()), "{what}");
            let title = field("player.title");
            assert_eq!(title.kind, Kind::Utf16, "{what}: {title:?}");
            assert_eq!(title.value, Value::Text("Hüter der Schlüssel".to_owned()));

            // Both monsters together: what is zero in one is told by the other.
            let both = dissector.instances(&[Gva(bat), Gva(wolf)], program.sizes["Monster"]);
            let fields = common(&both);
            let field = |value: &str| at(&fields, offset(program, value, wolf), &what);
            assert_eq!(field("wolf.id").kind, Kind::Integer, "{what}");
            assert_eq!(field("wolf.id").len, 4, "{what}");
            assert_eq!(field("wolf.score").kind, Kind::Integer, "{what}");
            assert_eq!(field("wolf.health").kind, Kind::Float, "{what}");
            assert_eq!(field("wolf.energy").kind, Kind::Double, "{what}");
            assert_eq!(field("wolf.target").kind, Kind::Object, "{what}");
            let string = offset(program, "wolf.energy", wolf) + 8;
            let index = fields.iter().position(|field| field.offset == string);
            let string = &both.fields[index.expect("a field")];
            assert_eq!(string.field.kind, Kind::StdString, "{what}");
            assert!(string.varies && string.votes == 2, "{what}");
            assert_eq!(
                string.values[0],
                Value::Text("Fledermaus ümläut".to_owned())
            );
            let talker = at(&fields, second.base, &what);
            assert_eq!(talker.kind, Kind::Vtable, "{what}");
            assert!(talker.detail.starts_with("Monster, base at"), "{what}");

            // Items have no virtual functions; their text begins at no border.
            let item = pointer(program, "player.inventory");
            let fields = dissector.instance(Gva(item), 48);
            let text = offset(program, "item-0000.tag", item);
            let covers = |field: &&Field| {
                field.kind == Kind::Utf8
                    && field.offset <= text
                    && text + 9 <= field.offset + field.len
            };
            let text = fields.iter().find(covers);
            let text = text.unwrap_or_else(|| panic!("{what}: no text in {fields:#?}"));
            assert!(text.value.to_string().contains("item-0000"), "{what}");
            checked += 1;
        }
        assert!(checked >= 3, "{name}: {checked}");
    });
}
