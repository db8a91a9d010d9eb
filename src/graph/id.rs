//! Ids: 128-bit hashes of canonical bytes. No counter, no name of a thing in this program, no address: the same
//! meaning gives the same id in every process and every version.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let bytes = (text.len() == 32 && text.is_ascii()).then(|| {
                    let mut bytes = [0; 16];
                    for (i, b) in bytes.iter_mut().enumerate() {
                        *b = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
                    }
                    Some(bytes)
                });
                bytes.flatten().map($name).ok_or_else(|| format!("'{text}' is not an id of 32 hex digits"))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hash_id! {
    /// What an operator means: kind, semantic parameters, ids of its inputs. 32 hex digits.
    OperatorId
}
hash_id! {
    /// Where a column's values come from: a base table column or a canonical expression. 32 hex digits.
    Provenance
}

impl OperatorId {
    /// The first 8 hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

/// Collects canonical bytes: every part is tagged by its length, so that no two sequences of parts give the same bytes.
#[derive(Debug, Clone, Default)]
pub struct Canonical(Vec<u8>);

impl Canonical {
    /// `kind` names what is described, with the version of its description: `filter/1`.
    pub fn new(kind: &str) -> Self {
        let mut c = Canonical(vec![]);
        c.text(kind);
        c
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend((bytes.len() as u64).to_le_bytes());
        self.0.extend(bytes);
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub fn number(&mut self, n: u64) -> &mut Self {
        self.bytes(&n.to_le_bytes())
    }

    pub fn flag(&mut self, flag: bool) -> &mut Self {
        self.bytes(&[u8::from(flag)])
    }

    pub fn id(&mut self, id: OperatorId) -> &mut Self {
        self.bytes(&id.0)
    }

    pub fn provenance(&mut self, p: Provenance) -> &mut Self {
        self.bytes(&p.0)
    }

    /// A list: its length, then each part by `each`.
    pub fn list<T>(
        &mut self,
        parts: impl ExactSizeIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.number(parts.len() as u64);
        parts.for_each(|p| each(self, p));
        self
    }

    fn hash(&self) -> [u8; 16] {
        let digest = Sha256::digest(&self.0);
        digest[..16].try_into().expect("SHA-256 has 32 bytes")
    }

    pub fn to_operator_id(&self) -> OperatorId {
        OperatorId(self.hash())
    }

    pub fn to_provenance(&self) -> Provenance {
        Provenance(self.hash())
    }

    pub fn to_variant(&self) -> u64 {
        u64::from_le_bytes(self.hash()[..8].try_into().expect("8 of 16 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_golden() {
        let id = Canonical::new("filter/1").text("a").number(1).to_operator_id();
        assert_eq!(id.to_string(), "9cd455832c83ed051e4391dfa99c5993");
        assert_eq!(id.to_string().parse::<OperatorId>().unwrap(), id);
    }

    #[test]
    fn the_border_between_parts_matters() {
        let a = Canonical::new("x").text("ab").text("c").to_operator_id();
        let b = Canonical::new("x").text("a").text("bc").to_operator_id();
        assert_ne!(a, b);
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        assert!("".parse::<OperatorId>().is_err());
        assert!("zz".repeat(16).parse::<OperatorId>().is_err());
    }
}
