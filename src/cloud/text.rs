//! What names, descriptions and tags may look like.

use super::error::ApiError;
use super::params::Params;
use super::rows::Tag;

/// Tags of a thing.
const MOST_TAGS: usize = 20;
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 128;

/// Whether a text can name a disk, a snapshot or an image: 2 to 128 characters, the first of them a letter, no address of a web page.
pub fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, ':' | '_' | '-' | '.');
    (2..=128).contains(&text.chars().count())
        && text.starts_with(char::is_alphabetic)
        && !is_address(text)
        && text.chars().all(fits)
}

/// Whether a text can describe something: 2 to 256 characters, no address of a web page.
pub fn is_description(text: &str) -> bool {
    (2..=256).contains(&text.chars().count()) && !is_address(text)
}

fn is_address(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// The text of a parameter if it is a fitting name; empty if it is absent. Otherwise the error `code`.
pub fn name(params: &Params, parameter: &str, code: &'static str, words: &str) -> Result<String, ApiError> {
    let Some(text) = params.text(parameter) else { return Ok(String::new()) };
    if is_name(text) { Ok(text.to_owned()) } else { Err(ApiError::new(code, 400, words.to_owned())) }
}

/// As [`name`], for a description; `status` is not the same everywhere.
pub fn description(params: &Params, parameter: &str, status: u16) -> Result<String, ApiError> {
    let Some(text) = params.text(parameter) else { return Ok(String::new()) };
    if is_description(text) {
        return Ok(text.to_owned());
    }
    Err(ApiError::new("InvalidDescription.Malformed", status, "The specified description is wrongly formed."))
}

/// The parameters `Tag.N.Key` and `Tag.N.Value`; of older SDKs `Tag.N.key`.
pub fn tags(params: &Params) -> Result<Vec<Tag>, ApiError> {
    let indices = params.indices("Tag");
    if indices.len() > MOST_TAGS {
        return Err(ApiError::new("InvalidTagCount", 400, "The specified tags are beyond the permitted range."));
    }
    let mut tags: Vec<Tag> = Vec::new();
    for index in indices {
        let tag = params.under("Tag", index);
        let either =
            |name: &str| tag.get(name).or_else(|| tag.get(&name.to_lowercase())).unwrap_or_default().to_owned();
        let (key, value) = (either("Key"), either("Value"));
        if key.is_empty() || key.chars().count() > LONGEST_KEY || is_reserved(&key) {
            return Err(ApiError::new("InvalidTagKey.Malformed", 400, "The specified Tag.n.Key is not valid."));
        }
        if value.chars().count() > LONGEST_VALUE || is_reserved(&value) {
            return Err(ApiError::new("InvalidTagValue.Malformed", 400, "The specified Tag.n.Value is not valid."));
        }
        if tags.iter().any(|tag| tag.key == key) {
            return Err(ApiError::new("Duplicate.TagKey", 400, "The Tag.N.Key contain duplicate key."));
        }
        tags.push(Tag { key, value });
    }
    Ok(tags)
}

fn is_reserved(text: &str) -> bool {
    text.starts_with("aliyun") || text.starts_with("acs:") || text.contains("http://") || text.contains("https://")
}

/// Whether a thing with these tags is wanted: it has each tag that was asked for; without a value, with any value.
pub fn has_tags(tags: &[Tag], wanted: &[Tag]) -> bool {
    wanted
        .iter()
        .all(|want| tags.iter().any(|tag| tag.key == want.key && (want.value.is_empty() || tag.value == want.value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_with_a_letter() {
        for good in ["ab", "数据盘", "a:b_c-d.1"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["a", "1a", "http://a", "a b", &"a".repeat(129), ""] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn tags_are_checked() {
        let tags = |pairs: &[(&str, &str)]| tags(&pairs.iter().copied().collect());
        let code = |pairs: &[(&str, &str)]| tags(pairs).expect_err("refused").code.into_owned();
        assert_eq!(
            tags(&[("Tag.1.Key", "k"), ("Tag.2.key", "l"), ("Tag.2.value", "v")]).expect("two"),
            [Tag { key: "k".into(), value: String::new() }, Tag { key: "l".into(), value: "v".into() }]
        );
        assert_eq!(code(&[("Tag.1.Value", "v")]), "InvalidTagKey.Malformed");
        assert_eq!(code(&[("Tag.1.Key", "aliyunx")]), "InvalidTagKey.Malformed");
        assert_eq!(code(&[("Tag.1.Key", "a"), ("Tag.2.Key", "a")]), "Duplicate.TagKey");
        assert_eq!(code(&[("Tag.1.Key", "a"), ("Tag.1.Value", "acs:x")]), "InvalidTagValue.Malformed");
    }
}
