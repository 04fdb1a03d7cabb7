//! Enums in configurations: a name, or a table with one key, as in `log_det = "exact"` and
//! `log_det = { taylor = { order = 2 } }`. A name alone stands for its table with every default.
//!
//! serde refuses a second key without its name, and in a table with a `kind` or `layer` without its place. Here
//! an unknown key is named wherever it stands.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{Deserializer, Error, IntoDeserializer, MapAccess, Visitor};

/// An enum with what `#[serde(remote = "Self")]` derives for it.
pub trait OneKey: Sized {
    /// The derived function.
    ///
    /// # Errors
    /// Those of serde.
    fn derived<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

/// `Serialize` and `Deserialize` for enums that derive both with `#[serde(remote = "Self")]`.
#[macro_export]
macro_rules! one_key {
    ($($name:ty),+) => {$(
        impl $crate::one_key::OneKey for $name {
            fn derived<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Self::deserialize(from)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, to)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::one_key::deserialize(from)
            }
        }
    )+};
}

/// Reads a name, or a table with one key.
///
/// # Errors
/// For an unknown name or key, and for a second key.
pub fn deserialize<'de, T: OneKey, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_any(NameOrTable(PhantomData))
}

struct NameOrTable<T>(PhantomData<T>);

impl<'de, T: OneKey> Visitor<'de> for NameOrTable<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, or a table with one key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        T::derived(name.into_deserializer()).or_else(|error: E| {
            // A name alone means the defaults of what it names.
            let defaults = MapDeserializer::new(std::iter::empty::<(&str, &str)>());
            let table = MapDeserializer::new(std::iter::once((name, defaults)));
            T::derived(MapAccessDeserializer::new(table)).map_err(|_: E| error)
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let value = T::derived(MapAccessDeserializer::new(&mut map))?;
        match map.next_key::<String>()? {
            None => Ok(value),
            Some(key) => Err(A::Error::custom(format_args!(
                "unknown field `{key}`, expected one key only"
            ))),
        }
    }
}
