//! `strongroom rpc`: any method by its name, and the list of all of them.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::control::rpc::{METHODS, Method, MethodList};

use super::Outcome;
use super::client::{Ask, say};

#[derive(Args)]
pub(super) struct RpcArgs {
    #[command(flatten)]
    ask: Ask,
    /// Print all methods with their parameters, results and examples; needs no target
    #[arg(long, conflicts_with = "method")]
    list: bool,
    /// The method
    #[arg(required_unless_present = "list")]
    method: Option<String>,
    /// Its parameters: a JSON object or array
    #[arg(default_value = "{}", value_name = "JSON", value_parser = json_of)]
    params: Value,
}

fn json_of(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

pub(super) fn run(args: &RpcArgs) -> Outcome {
    if let Some(method) = &args.method {
        return args.ask.print(method, args.params.clone(), |result: Value| format!("{result:#}\n"));
    }
    if args.ask.json {
        say(&format!("{:#}\n", json!(MethodList::all())));
    } else {
        say("One line is one JSON-RPC 2.0 document. What is changed is not kept across a restart of the target.\n");
        METHODS.iter().for_each(|method| say(&describe(method)));
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(method: &Method) -> String {
    let mut text = format!("\n{}: {}\n", method.name, method.about);
    for param in method.params {
        let optional = if param.required { "" } else { ", optional" };
        text += &format!("  {} ({}{optional}): {}\n", param.name, param.kind, param.about);
    }
    let example: Value = serde_json::from_str(method.example).expect("the tests read each example");
    let request = json!({"jsonrpc": "2.0", "method": method.name, "params": example, "id": 1});
    text + &format!("  answer: {}\n  example: {request}\n", method.result)
}
