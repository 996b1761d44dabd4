//! JSON values as XML: members become elements, a list repeats its element.
//!
//! Whatever the value is, the document is well-formed: characters that XML 1.0 cannot say at all become U+FFFD, and those of a name that it cannot have
//! become underscores.

use serde_json::Value;

/// What each document begins with.
pub(super) const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";

/// A document with this root.
pub(super) fn document(root: &str, value: &Value) -> String {
    let mut text = String::from(DECLARATION);
    element(&mut text, root, value);
    text
}

fn element(out: &mut String, name: &str, value: &Value) {
    if let Value::Array(items) = value {
        items.iter().for_each(|item| element(out, name, item));
        return;
    }
    let name: String = name.chars().enumerate().map(name_char).collect();
    // A name needs a character.
    let name = if name.is_empty() { "_" } else { &name };
    out.push_str(&format!("<{name}>"));
    content(out, value);
    out.push_str(&format!("</{name}>"));
}

fn content(out: &mut String, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(it) => out.push_str(if *it { "true" } else { "false" }),
        Value::Number(it) => out.push_str(&it.to_string()),
        Value::String(it) => it.chars().for_each(|c| escape(out, c)),
        Value::Array(_) => unreachable!("an element is made of each item"),
        Value::Object(members) => members.iter().for_each(|(name, value)| element(out, name, value)),
    }
}

/// XML 1.0 section 2.3, without what lies beyond ASCII.
fn name_char((at, c): (usize, char)) -> char {
    let may_begin = c.is_ascii_alphabetic() || c == '_';
    let fits = may_begin || (at > 0 && (c.is_ascii_digit() || matches!(c, '-' | '.')));
    if fits { c } else { '_' }
}

/// XML 1.0 sections 2.2 and 2.4. A carriage return would be read back as a line feed (section 2.11).
fn escape(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&apos;"),
        '\r' => out.push_str("&#13;"),
        '\t' | '\n' | ' '..='\u{FFFD}' | '\u{10000}'.. => out.push(c),
        _ => out.push(char::REPLACEMENT_CHARACTER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body(value: Value) -> String {
        document("R", &value).strip_prefix(DECLARATION).expect("a declaration").to_owned()
    }

    #[test]
    fn members_become_elements_and_lists_repeat_theirs() {
        let value = json!({
            "Disks": { "Disk": [{ "Size": 20, "Encrypted": true, "Tags": { "Tag": [] } }, { "Size": -1.5, "Name": null }] },
            "Total": 2,
        });
        assert_eq!(
            body(value),
            "<R><Disks><Disk><Encrypted>true</Encrypted><Size>20</Size><Tags></Tags></Disk>\
             <Disk><Name></Name><Size>-1.5</Size></Disk></Disks><Total>2</Total></R>"
        );
    }

    #[test]
    fn nothing_breaks_a_document() {
        let value = json!({ "Name": "<a b='c'>&\"d\"\r\n\t数\0\u{B}\u{FFFE}\u{1F600}" });
        assert_eq!(
            body(value),
            "<R><Name>&lt;a b=&apos;c&apos;&gt;&amp;&quot;d&quot;&#13;\n\t数\u{FFFD}\u{FFFD}\u{FFFD}\u{1F600}</Name></R>"
        );
        for (name, wanted) in [("", "_"), ("1a", "_a"), ("a1.-_", "a1.-_"), ("a><b", "a__b"), ("acs:x 数", "acs_x__")]
        {
            assert_eq!(body(json!({ name: 1 })), format!("<R><{wanted}>1</{wanted}></R>"));
        }
        // A list in a list has no name of its own.
        assert_eq!(body(json!({ "A": [[1, 2], 3] })), "<R><A>1</A><A>2</A><A>3</A></R>");
    }
}
