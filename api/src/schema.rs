//! The type table: for every type its fields, their types, list types and merge keys.
