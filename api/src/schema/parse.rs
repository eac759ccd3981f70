//! Reads the text form of the type table.
//!
//! Two passes: the first numbers the types, so that the second can resolve references in any order. What the table
//! refers to lives as long as the process, so small lists and packages are leaked once.

use std::collections::HashMap;

use super::{Field, FieldType, ListType, Merge, Package, Table, Type, TypeId};

/// A line that does not fit the grammar.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("line {0:?} does not fit the grammar of the type table")]
    Line(&'static str),
    #[error("no type is called {package}.{name}")]
    Reference { package: &'static str, name: &'static str },
    #[error("more types than a reference can number")]
    TooMany,
}

type Ids = HashMap<(&'static str, &'static str), TypeId>;

pub(super) fn parse(sources: &[&'static str]) -> Result<Table, Error> {
    let mut ids = Ids::new();
    let mut types = Vec::new();
    for source in sources {
        declare_types(source, &mut types, &mut ids)?;
    }
    let mut next = 0;
    for source in sources {
        for line in lines(source) {
            if line.starts_with("  ") {
                add_field(line, &mut types[next - 1], &ids)?;
            } else if !line.starts_with("package ") {
                next += 1;
            }
        }
    }
    let declared: Vec<Vec<Field>> = types.iter().map(|ty| ty.fields.clone()).collect();
    for ty in &mut types {
        for (_, id) in &ty.inlined {
            let fields = &declared[usize::from(id.0)];
            ty.fields.extend(fields.iter().map(|field| Field { is_inlined: true, ..*field }));
        }
        ty.fields.sort_by_key(|field| field.name);
        ty.fields.shrink_to_fit();
    }
    Ok(Table { types, ids })
}

fn lines(source: &'static str) -> impl Iterator<Item = &'static str> {
    source.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn declare_types(source: &'static str, types: &mut Vec<Type>, ids: &mut Ids) -> Result<(), Error> {
    let mut package: Option<&'static Package> = None;
    for line in lines(source).filter(|line| !line.starts_with("  ")) {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["package", name, openapi_prefix, api_version] => {
                package = Some(Box::leak(Box::new(Package { name, openapi_prefix, api_version })));
            }
            [form @ ("object" | "type"), name, words @ ..] => {
                let package = package.ok_or(Error::Line(line))?;
                let id = TypeId(u16::try_from(types.len()).map_err(|_| Error::TooMany)?);
                ids.insert((package.name, name), id);
                let is_object = *form == "object";
                let fields = if is_object { vec![plain("apiVersion"), plain("kind")] } else { Vec::new() };
                let is_atomic = words == ["atomic"];
                types.push(Type { name, package, is_object, is_atomic, fields, inlined: Vec::new() });
            }
            _ => return Err(Error::Line(line)),
        }
    }
    Ok(())
}

fn plain(name: &'static str) -> Field {
    Field {
        name,
        ty: FieldType::String,
        number: 0,
        is_required: false,
        is_nullable: false,
        is_inlined: false,
        list: ListType::Unstated,
        merge: Merge::Never,
        retain_keys: false,
        replace: false,
    }
}

fn add_field(line: &'static str, ty: &mut Type, ids: &Ids) -> Result<(), Error> {
    let mut words = line.split_ascii_whitespace();
    let (Some(number), Some(name), Some(field_type)) = (words.next(), words.next(), words.next()) else {
        return Err(Error::Line(line));
    };
    let number = number.parse().map_err(|_| Error::Line(line))?;
    if name == "..." {
        let FieldType::Message(id) = parse_type(field_type, ty.package, ids)? else {
            return Err(Error::Line(line));
        };
        ty.inlined.push((number, id));
        return Ok(());
    }
    let mut field = plain(name.trim_end_matches('!'));
    field.number = number;
    field.is_required = name.ends_with('!');
    field.is_nullable = field_type.ends_with('?');
    field.ty = parse_type(field_type.trim_end_matches('?'), ty.package, ids)?;
    for word in words {
        add_word(word, &mut field).ok_or(Error::Line(line))?;
    }
    ty.fields.push(field);
    Ok(())
}

fn add_word(word: &'static str, field: &mut Field) -> Option<()> {
    match word {
        "atomic" => field.list = ListType::Atomic,
        "granular" => field.list = ListType::Granular,
        "set" => field.list = ListType::Set,
        "merge" => field.merge = Merge::Scalars,
        "retainKeys" => field.retain_keys = true,
        "replace" => field.replace = true,
        _ => {
            let (name, argument) = word.strip_suffix(')')?.split_once('(')?;
            match name {
                "map" => field.list = ListType::Map(Vec::leak(argument.split(',').collect())),
                "merge" => field.merge = Merge::By(argument),
                _ => return None,
            }
        }
    }
    Some(())
}

fn parse_type(text: &'static str, package: &'static Package, ids: &Ids) -> Result<FieldType, Error> {
    if let Some((outer, inner)) = text.strip_suffix('>').and_then(|text| text.split_once('<')) {
        let element = parse_type(inner, package, ids)?;
        return match outer {
            "list" => Ok(FieldType::List(Box::leak(Box::new(element)))),
            "map" => Ok(FieldType::Map(Box::leak(Box::new(element)))),
            "items" => Ok(FieldType::Items(Box::leak(Box::new(element)))),
            _ => Err(Error::Line(text)),
        };
    }
    Ok(match text {
        "string" => FieldType::String,
        "int32" => FieldType::Int32,
        "int64" => FieldType::Int64,
        "bool" => FieldType::Bool,
        "bytes" => FieldType::Bytes,
        "time" => FieldType::Time,
        "microtime" => FieldType::MicroTime,
        "duration" => FieldType::Duration,
        "quantity" => FieldType::Quantity,
        "intOrString" => FieldType::IntOrString,
        "any" => FieldType::Any,
        "fields" => FieldType::FieldSet,
        reference => {
            let (package, name) = reference.rsplit_once('.').unwrap_or((package.name, reference));
            let id = ids.get(&(package, name)).ok_or(Error::Reference { package, name })?;
            FieldType::Message(*id)
        }
    })
}
