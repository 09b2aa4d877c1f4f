//! Answers that are well-formed and wrong: what broken, lagging and malicious JSON-RPC providers give.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rules::{RpcMatch, call};

/// Another truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Lie {
    /// The last receipt is missing.
    ShortReceipts,
    /// `[]` for a block with transactions.
    EmptyReceipts,
    /// One receipt is null.
    NullInsideReceipts,
    /// The result is null.
    Null,
    /// All logs of one receipt are missing.
    DropLogs,
    /// One log is missing.
    DropOneLog,
    /// One log is there twice.
    CopyLog,
    /// One topic differs in one digit.
    AlterTopic,
    /// One log's data differs in one digit.
    AlterData,
    /// One transaction's value differs.
    AlterValue,
    /// One transaction's sender differs.
    AlterSender,
    /// The state root differs, the hash does not.
    AlterHeader,
    /// A transaction and its receipt have a type that nobody knows: nothing about it can be proven or disproved.
    UnknownType,
    /// The receipts of a neighbour.
    SiblingReceipts,
    /// A neighbour of the block that was asked for.
    OtherBlock,
    /// Another chain.
    ChainId(u64),
    /// A head that is not there, to who asks for a block by its tag.
    Head(u64),
}

impl Lie {
    /// Every lie that the roots of a block, its shape or what was asked can show.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![
            Self::ShortReceipts,
            Self::EmptyReceipts,
            Self::NullInsideReceipts,
            Self::DropLogs,
            Self::DropOneLog,
            Self::CopyLog,
            Self::AlterTopic,
            Self::AlterData,
            Self::AlterValue,
            Self::AlterSender,
            Self::AlterHeader,
            Self::SiblingReceipts,
            Self::OtherBlock,
        ]
    }

    /// Whether the lie is about what a method answers, asked for a block by its height or not.
    fn is_about(&self, (method, block): &(String, Option<u64>)) -> bool {
        let method = method.as_str();
        match self {
            Self::Head(_) => method == "eth_getBlockByNumber" && block.is_none(),
            Self::Null => true,
            Self::UnknownType => matches!(method, "eth_getBlockByNumber" | "eth_getBlockReceipts"),
            Self::ShortReceipts
            | Self::EmptyReceipts
            | Self::NullInsideReceipts
            | Self::DropLogs
            | Self::DropOneLog
            | Self::CopyLog
            | Self::AlterTopic
            | Self::AlterData
            | Self::SiblingReceipts => method == "eth_getBlockReceipts",
            Self::AlterValue | Self::AlterSender | Self::AlterHeader | Self::OtherBlock => {
                method == "eth_getBlockByNumber"
            }
            Self::ChainId(_) => method == "eth_chainId",
        }
    }

    /// Changes the question, for lies that are another question's truth. Returns how many calls it changed.
    pub(super) fn twist_request(&self, request: &mut Value, when: &RpcMatch) -> u64 {
        if !matches!(self, Self::SiblingReceipts | Self::OtherBlock) {
            return 0;
        }
        let mut twisted = 0;
        for item in items(request) {
            let Some(subject @ (_, Some(block))) = call(item) else { continue };
            if !self.is_about(&subject) || !when.matches(&subject) {
                continue;
            }
            let neighbour = if block == 0 { 1 } else { block - 1 };
            if let Some(number) = item.pointer_mut("/params/0") {
                *number = json!(format!("{neighbour:#x}"));
                twisted += 1;
            }
        }
        twisted
    }

    /// Changes the answer. Returns how many calls' results it changed; a block without receipts cannot lose one.
    pub(super) fn twist_answer(&self, request: &Value, answer: &mut Value, when: &RpcMatch) -> u64 {
        let asked = match request {
            Value::Array(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        let mut twisted = 0;
        for item in items(answer) {
            let of = asked.iter().find(|call| call.get("id") == item.get("id"));
            let Some(subject) = of.and_then(call) else { continue };
            if self.is_about(&subject)
                && when.matches(&subject)
                && let Some(result) = item.get_mut("result")
            {
                twisted += u64::from(self.twist(result).is_some());
            }
        }
        twisted
    }

    fn twist(&self, result: &mut Value) -> Option<()> {
        match self {
            Self::Null => *result = Value::Null,
            Self::ChainId(id) => *result = json!(format!("{id:#x}")),
            Self::Head(height) => *result.get_mut("number")? = json!(format!("{height:#x}")),
            Self::ShortReceipts => drop(result.as_array_mut()?.pop()?),
            Self::EmptyReceipts => {
                let receipts = result.as_array_mut()?;
                receipts.pop()?;
                receipts.clear();
            }
            Self::NullInsideReceipts => *result.get_mut(0)? = Value::Null,
            Self::DropLogs => first_logs(result)?.clear(),
            Self::DropOneLog => drop(first_logs(result)?.pop()?),
            Self::CopyLog => {
                let logs = first_logs(result)?;
                let copy = logs.first()?.clone();
                logs.push(copy);
            }
            Self::AlterTopic => alter(first_logs(result)?.first_mut()?.pointer_mut("/topics/0")?)?,
            Self::AlterData => {
                let logs = all_logs(result)?;
                let with_data =
                    logs.into_iter().find(|log| log["data"].as_str().is_some_and(|data| data.len() > 2))?;
                alter(with_data.get_mut("data")?)?;
            }
            Self::AlterValue => alter(result.pointer_mut("/transactions/0/value")?)?,
            Self::AlterSender => alter(result.pointer_mut("/transactions/0/from")?)?,
            Self::AlterHeader => alter(result.get_mut("stateRoot")?)?,
            Self::UnknownType => {
                let first = if result.is_array() { "/0/type" } else { "/transactions/0/type" };
                *result.pointer_mut(first)? = json!("0x55");
            }
            Self::SiblingReceipts | Self::OtherBlock => return None,
        }
        Some(())
    }
}

fn items(value: &mut Value) -> &mut [Value] {
    match value {
        Value::Array(items) => items,
        single => std::slice::from_mut(single),
    }
}

fn all_logs(receipts: &mut Value) -> Option<Vec<&mut Value>> {
    let receipts = receipts.as_array_mut()?;
    Some(
        receipts.iter_mut().filter_map(|receipt| receipt.get_mut("logs")?.as_array_mut()).flatten().collect(),
    )
}

/// The logs of the first receipt that has any.
fn first_logs(receipts: &mut Value) -> Option<&mut Vec<Value>> {
    let with_logs =
        receipts.as_array_mut()?.iter_mut().filter_map(|receipt| receipt.get_mut("logs")?.as_array_mut());
    with_logs.into_iter().find(|logs| !logs.is_empty())
}

/// Changes the last hex digit.
fn alter(text: &mut Value) -> Option<()> {
    let old = text.as_str()?;
    let (rest, last) = old.split_at_checked(old.len().checked_sub(1)?)?;
    *text = Value::String(format!("{rest}{}", if last == "1" { "2" } else { "1" }));
    Some(())
}
