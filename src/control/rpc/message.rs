//! Messages of JSON-RPC 2.0 (jsonrpc.org/specification, sections 4 to 6): requests, notifications, batches and their answers.
//!
//! Whatever comes in, one answer or none goes out. What was not understood is answered with the error that the specification names.

use serde_json::{Map, Value, json};

use super::refusal::{Kind, Refusal};

/// The most requests of one batch: its answers are made before the first one is sent.
const LARGEST_BATCH: usize = 100;

/// A request or notification.
#[derive(Debug, PartialEq)]
pub(super) struct Call {
    pub(super) method: String,
    /// By name or by position.
    pub(super) params: Value,
    /// A notification has none, and gets no answer.
    id: Option<Value>,
}

/// Carries out what a line asks for; `None` if nobody waits for an answer.
pub(super) fn answer(line: &[u8], mut run: impl FnMut(Call) -> Result<Value, Refusal>) -> Option<Value> {
    match serde_json::from_slice(line) {
        Err(e) => Some(refuse(Value::Null, &Refusal::new(Kind::ParseError, format!("this is no JSON: {e}")))),
        Ok(Value::Array(batch)) => answer_batch(batch, run),
        Ok(one) => answer_one(one, &mut run),
    }
}

/// The answer to what cannot be read at all.
pub(super) fn unreadable(why: &str) -> Value {
    refuse(Value::Null, &Refusal::new(Kind::InvalidRequest, why))
}

fn answer_batch(batch: Vec<Value>, mut run: impl FnMut(Call) -> Result<Value, Refusal>) -> Option<Value> {
    if batch.is_empty() {
        return Some(unreadable("a batch has at least one request"));
    }
    if batch.len() > LARGEST_BATCH {
        return Some(unreadable(&format!("a batch has at most {LARGEST_BATCH} requests")));
    }
    let answers: Vec<Value> = batch.into_iter().filter_map(|one| answer_one(one, &mut run)).collect();
    (!answers.is_empty()).then_some(Value::Array(answers))
}

fn answer_one(request: Value, run: &mut impl FnMut(Call) -> Result<Value, Refusal>) -> Option<Value> {
    let mut call = match read(request) {
        Ok(call) => call,
        Err((id, refusal)) => return Some(refuse(id, &refusal)),
    };
    let id = call.id.take();
    let result = run(call);
    let id = id?;
    Some(match result {
        Ok(result) => json!({"jsonrpc": "2.0", "result": result, "id": id}),
        Err(refusal) => refuse(id, &refusal),
    })
}

fn refuse(id: Value, refusal: &Refusal) -> Value {
    json!({"jsonrpc": "2.0", "error": refusal.to_json(), "id": id})
}

/// Reads a request object; an error comes with the identifier, if there is one to be seen.
fn read(request: Value) -> Result<Call, (Value, Refusal)> {
    let Value::Object(mut fields) = request else {
        return Err((Value::Null, Refusal::new(Kind::InvalidRequest, "a request is a JSON object")));
    };
    let id = fields.remove("id");
    if id.as_ref().is_some_and(|id| !matches!(id, Value::String(_) | Value::Number(_) | Value::Null)) {
        return Err((Value::Null, Refusal::new(Kind::InvalidRequest, "`id` has to be a string, a number or null")));
    }
    match read_call(fields) {
        Ok((method, params)) => Ok(Call { method, params, id }),
        Err(why) => Err((id.unwrap_or(Value::Null), Refusal::new(Kind::InvalidRequest, why))),
    }
}

fn read_call(mut fields: Map<String, Value>) -> Result<(String, Value), &'static str> {
    if fields.get("jsonrpc") != Some(&json!("2.0")) {
        return Err("`jsonrpc` has to be \"2.0\"");
    }
    let Some(Value::String(method)) = fields.remove("method") else {
        return Err("`method` has to be a string");
    };
    match fields.remove("params") {
        None => Ok((method, json!({}))),
        Some(params @ (Value::Object(_) | Value::Array(_))) => Ok((method, params)),
        Some(_) => Err("`params` has to be an object or an array"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `subtract` and `get_data` as in the examples of the specification (section 7).
    fn run(call: Call) -> Result<Value, Refusal> {
        match call.method.as_str() {
            "subtract" => {
                let number =
                    |at: usize, name: &str| call.params.get(at).or(call.params.get(name)).and_then(Value::as_i64);
                let (minuend, subtrahend) = (number(0, "minuend"), number(1, "subtrahend"));
                Ok(json!(minuend.expect("a number") - subtrahend.expect("a number")))
            }
            "get_data" => Ok(json!(["hello", 5])),
            "update" | "notify_hello" => Ok(Value::Null),
            _ => Err(Refusal::new(Kind::MethodNotFound, "Method not found")),
        }
    }

    fn ask(line: &str) -> Option<Value> {
        answer(line.as_bytes(), run)
    }

    fn codes(answer: Option<Value>) -> Vec<(i64, Value)> {
        let answer = answer.expect("an answer");
        let answers = answer.as_array().cloned().unwrap_or_else(|| vec![answer]);
        let code = |one: &Value| (one["error"]["code"].as_i64().unwrap_or(0), one["id"].clone());
        answers.iter().map(code).collect()
    }

    #[test]
    fn the_examples_of_the_specification_are_answered_as_there() {
        let result = |text: &str| ask(text).expect("an answer");
        assert_eq!(
            result(r#"{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}"#),
            json!({"jsonrpc": "2.0", "result": 19, "id": 1})
        );
        assert_eq!(
            result(r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}"#),
            json!({"jsonrpc": "2.0", "result": 19, "id": 3})
        );
        assert_eq!(ask(r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#), None);
        assert_eq!(ask(r#"{"jsonrpc": "2.0", "method": "foobar"}"#), None);
        for (line, code, id) in [
            (r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#, -32601, json!("1")),
            (r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#, -32700, Value::Null),
            (r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#, -32600, Value::Null),
            (
                r#"[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method""#,
                -32700,
                Value::Null,
            ),
            ("[]", -32600, Value::Null),
        ] {
            assert_eq!(codes(ask(line)), [(code, id)], "{line}");
        }
        assert_eq!(codes(ask("[1,2,3]")), vec![(-32600, Value::Null); 3]);
        let batch = r#"[{"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
            {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}, {"foo": "boo"},
            {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
            {"jsonrpc": "2.0", "method": "get_data", "id": "9"}]"#;
        let expected = [(0, json!("2")), (-32600, Value::Null), (-32601, json!("5")), (0, json!("9"))];
        assert_eq!(codes(ask(batch)), expected);
        assert_eq!(ask(r#"[{"jsonrpc": "2.0", "method": "update"}, {"jsonrpc": "2.0", "method": "nothing"}]"#), None);
    }

    #[test]
    fn what_is_no_request_is_refused_with_its_identifier_if_it_has_one() {
        for (line, id) in [
            (r#"{"method": "update", "id": 7}"#, json!(7)),
            (r#"{"jsonrpc": "1.0", "method": "update", "id": 7}"#, json!(7)),
            (r#"{"jsonrpc": "2.0", "method": "update", "params": 3, "id": 7}"#, json!(7)),
            (r#"{"jsonrpc": "2.0", "method": "update", "id": {"a": 1}}"#, Value::Null),
            ("7", Value::Null),
        ] {
            assert_eq!(codes(ask(line)), [(-32600, id)], "{line}");
        }
        let batch = format!("[{}]", vec!["1"; LARGEST_BATCH + 1].join(","));
        assert_eq!(codes(ask(&batch)), [(-32600, Value::Null)]);
        assert_eq!(codes(ask(&"[".repeat(1000))), [(-32700, Value::Null)], "nesting is limited");
        assert_eq!(codes(ask(r#"{"jsonrpc": "2.0", "method": "update", "id": null}"#)), [(0, Value::Null)]);
    }
}
