//! Long answers in pages: by number and size, or by a token that says where to go on.

use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::params::Params;

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    number: usize,
    size: usize,
    /// The first item, if the caller goes by tokens.
    from: Option<usize>,
}

const DEFAULT_SIZE: usize = 10;
const MOST_BY_NUMBER: usize = 100;
const MOST_BY_TOKEN: usize = 500;

impl Page {
    /// Reads `PageNumber` and `PageSize`, or `MaxResults` and `NextToken`, which count alone if one of them is there.
    pub fn of(params: &Params) -> Result<Self, ApiError> {
        let number = |name: &str, most: usize| match params.number::<usize>(name)? {
            Some(number) if (1..=most).contains(&number) => Ok(Some(number)),
            Some(_) => Err(ApiError::invalid(name)),
            None => Ok(None),
        };
        if params.text("MaxResults").is_some() || params.text("NextToken").is_some() {
            let size = number("MaxResults", MOST_BY_TOKEN)?.unwrap_or(DEFAULT_SIZE);
            let from = params.text("NextToken").map_or(Ok(0), |token| token.parse());
            let from = from.map_err(|_| ApiError::invalid("NextToken"))?;
            return Ok(Self { number: 1, size, from: Some(from) });
        }
        Ok(Self {
            number: number("PageNumber", usize::MAX)?.unwrap_or(1),
            size: number("PageSize", MOST_BY_NUMBER)?.unwrap_or(DEFAULT_SIZE),
            from: None,
        })
    }

    /// The answer: the page of the items under `outer`.`inner`, and where it stands in the whole.
    pub fn answer<T>(self, outer: &str, inner: &str, items: &[T], view: impl FnMut(&T) -> Value) -> Value {
        let from = self.from.unwrap_or((self.number - 1).saturating_mul(self.size)).min(items.len());
        let to = from.saturating_add(self.size).min(items.len());
        let page: Vec<Value> = items[from..to].iter().map(view).collect();
        let mut answer = Map::new();
        answer.insert("TotalCount".to_owned(), json!(items.len()));
        answer.insert("PageNumber".to_owned(), json!(self.number));
        answer.insert("PageSize".to_owned(), json!(self.size));
        if self.from.is_some() {
            let next = if to < items.len() { to.to_string() } else { String::new() };
            answer.insert("NextToken".to_owned(), json!(next));
        }
        answer.insert(outer.to_owned(), json!({ inner: page }));
        Value::Object(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(pairs: &[(&str, &str)]) -> Result<Value, ApiError> {
        let page = Page::of(&pairs.iter().copied().collect())?;
        Ok(page.answer("Numbers", "Number", &(0..25).collect::<Vec<u32>>(), |number| json!(number)))
    }

    #[test]
    fn pages_make_the_whole() {
        let third = numbers(&[("PageNumber", "3")]).expect("there");
        assert_eq!(third["Numbers"]["Number"], json!([20, 21, 22, 23, 24]));
        assert_eq!(third["TotalCount"], 25);
        assert_eq!(numbers(&[("PageNumber", "9")]).expect("empty")["Numbers"]["Number"], json!([]));
        for (name, value) in [("PageNumber", "0"), ("PageSize", "101"), ("MaxResults", "0"), ("NextToken", "x")] {
            assert_eq!(numbers(&[(name, value)]).expect_err(name).code, "InvalidParameter");
        }
    }

    #[test]
    fn tokens_lead_to_the_end() {
        let (mut token, mut seen) = (String::new(), 0);
        loop {
            let answer = numbers(&[("MaxResults", "10"), ("NextToken", &token)]).expect("there");
            seen += answer["Numbers"]["Number"].as_array().expect("a list").len();
            token = answer["NextToken"].as_str().expect("a text").to_owned();
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, 25);
    }
}
