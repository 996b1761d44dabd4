//! The parameters of a request: names and texts on the wire, and the types that operations ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::error::ApiError;

/// The parameters of a request, decoded. An empty value counts as absent, as the SDKs send some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; of two with the same name the first counts.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.entry(name.into()).or_insert_with(|| value.into());
    }

    /// As it was sent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A text, if it is there.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// A text that has to be there.
    pub fn needed(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name).ok_or_else(|| ApiError::missing(name))
    }

    /// `true` or `false`, in any case: the SDKs do not agree.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match () {
            () if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            () if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            () => Err(ApiError::invalid(name)),
        }
    }

    /// A number.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.text(name).map(|text| text.parse().map_err(|_| ApiError::invalid(name))).transpose()
    }

    /// A JSON array of texts or numbers, such as `["d-1","d-2"]`.
    pub fn array(&self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let items: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|_| ApiError::invalid(name))?;
        let texts = items.into_iter().map(|item| match item {
            serde_json::Value::String(text) => Ok(text),
            serde_json::Value::Number(number) => Ok(number.to_string()),
            _ => Err(ApiError::invalid(name)),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// The numbers N for which there is a parameter `prefix.N` or `prefix.N.…`, in ascending order.
    pub fn indices(&self, prefix: &str) -> Vec<u32> {
        let number = |name: &str| name.strip_prefix(prefix)?.strip_prefix('.')?.split('.').next()?.parse().ok();
        let numbers: BTreeSet<u32> = self.0.keys().filter_map(|name| number(name)).collect();
        numbers.into_iter().collect()
    }

    /// What is there under `prefix.N.`, with that taken from the names.
    pub fn under(&self, prefix: &str, index: u32) -> Self {
        let prefix = format!("{prefix}.{index}.");
        let inner = self.0.iter().filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value)));
        Self(inner.map(|(name, value)| (name.to_owned(), value.clone())).collect())
    }

    /// The values of `prefix.1`, `prefix.2` and so on, in their order.
    pub fn list(&self, prefix: &str) -> Vec<&str> {
        self.indices(prefix).into_iter().filter_map(|index| self.text(&format!("{prefix}.{index}"))).collect()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Params {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut params = Self::new();
        pairs.into_iter().for_each(|(name, value)| params.insert(name, value));
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> Params {
        [
            ("Encrypted", "True"),
            ("Size", "40"),
            ("Empty", ""),
            ("DiskIds", r#"["d-1",2]"#),
            ("DataDisk.2.Size", "20"),
            ("DataDisk.10.Size", "30"),
            ("DataDisk.x.Size", "1"),
            ("AddAccount.2", "b"),
            ("AddAccount.1", "a"),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn values_have_types() {
        let params = params();
        assert_eq!(params.flag("Encrypted"), Ok(Some(true)));
        assert_eq!(params.number::<u32>("Size"), Ok(Some(40)));
        assert_eq!(params.text("Empty"), None);
        assert_eq!(params.array("DiskIds"), Ok(Some(vec!["d-1".to_owned(), "2".to_owned()])));
        assert_eq!(params.flag("Size").expect_err("no flag").code, "InvalidParameter");
        assert_eq!(params.number::<u8>("DiskIds").expect_err("no number").status, 400);
        assert_eq!(params.needed("Nothing").expect_err("absent").code, "MissingParameter");
    }

    #[test]
    fn lists_have_the_order_of_their_numbers() {
        let params = params();
        assert_eq!(params.indices("DataDisk"), [2, 10]);
        assert_eq!(params.under("DataDisk", 10).number::<u32>("Size"), Ok(Some(30)));
        assert_eq!(params.list("AddAccount"), ["a", "b"]);
    }
}
