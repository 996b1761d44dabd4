//! `strongroom cloud`, and what other subcommands need to reach the cloud: operations of its API for people without the SDK.

pub(super) mod disk;
pub(super) mod snapshot;

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::Outcome;
use super::client::Ask;
use super::table::printable;

#[derive(Args)]
pub(super) struct CloudArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(flatten)]
    whose: Whose,
    /// The product: ecs or kms
    #[arg(long, default_value = "ecs", value_parser = ["ecs", "kms"])]
    product: String,
    /// The operation, such as DescribeDisks
    action: String,
    /// Its parameters, as the API has them: DiskId=d-…
    #[arg(value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
}

/// For which account something is done.
#[derive(Args, Clone)]
pub(super) struct Whose {
    /// The account; that of what is named, or the only one, if left out
    #[arg(long, env = "STRONGROOM_ACCOUNT", value_name = "NAME")]
    pub(super) account: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| format!("{text:?} is no NAME=VALUE"))
}

/// An operation of the API, with the parameters that are there.
pub(super) struct Operation<'a> {
    pub(super) product: &'a str,
    pub(super) action: &'a str,
    pub(super) account: Option<&'a str>,
    pub(super) params: Vec<(&'a str, Option<String>)>,
}

impl<'a> Operation<'a> {
    /// One of ECS.
    pub(super) fn ecs(action: &'a str, account: Option<&'a str>, params: Vec<(&'a str, Option<String>)>) -> Self {
        Self { product: "ecs", action, account, params }
    }

    fn json(self) -> Value {
        let params: BTreeMap<&str, String> =
            self.params.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        json!({"product": self.product, "action": self.action, "account": self.account, "params": params})
    }

    /// Carries it out and prints what came of it.
    pub(super) fn print(self, ask: &Ask, show: impl FnOnce(Value) -> String) -> Outcome {
        ask.print("cloud.call", self.json(), show)
    }

    /// Carries it out and says so.
    pub(super) fn done(self, ask: &Ask, what: String) -> Outcome {
        self.print(ask, |_| printable(&what) + "\n")
    }
}

/// All items of a list that comes in pages.
pub(super) fn all(
    ask: &Ask,
    action: &str,
    account: Option<&str>,
    lists: (&str, &str),
    params: Vec<(&str, Option<String>)>,
) -> Result<Vec<Value>, super::Failure> {
    let mut client = ask.connect()?;
    let mut items = Vec::new();
    for page in 1.. {
        let mut params = params.clone();
        params.extend([("PageSize", Some("50".to_owned())), ("PageNumber", Some(page.to_string()))]);
        let answer = client.call("cloud.call", Operation::ecs(action, account, params).json())?;
        let there = answer[lists.0][lists.1].as_array().cloned().unwrap_or_default();
        let total = answer["TotalCount"].as_u64().unwrap_or(0);
        let is_last = there.is_empty();
        items.extend(there);
        if is_last || items.len() as u64 >= total {
            break;
        }
    }
    Ok(items)
}

/// A text of an answer.
pub(super) fn text(item: &Value, name: &str) -> String {
    match &item[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

pub(super) fn run(args: &CloudArgs) -> Outcome {
    let params = args.params.iter().map(|(name, value)| (name.as_str(), Some(value.clone()))).collect();
    let operation =
        Operation { product: &args.product, action: &args.action, account: args.whose.account.as_deref(), params };
    operation.print(&args.ask, |answer| format!("{answer:#}\n"))
}
