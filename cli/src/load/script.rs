//! What happens in which block. Pure: the same numbers give the same transactions.

use serde_json::{Value, json};

use super::LoadSummary;
use super::rpc::quantity;

/// Unlocked accounts that take part.
pub(super) const ACCOUNTS: u64 = 10;

const TOKEN_CODE: &str = include_str!("../../assets/contracts/Token.hex");
const LOG_SHAPES_CODE: &str = include_str!("../../assets/contracts/LogShapes.hex");

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    DeployToken,
    DeployLogShapes,
    /// One of the first token's holders pays another.
    Transfer {
        to: u64,
        value: u128,
    },
    Approve {
        spender: u64,
        value: u128,
    },
    /// More than anybody holds: reverts with `InsufficientBalance`.
    Overdraw {
        to: u64,
    },
    /// More than was ever approved: reverts with `InsufficientAllowance`.
    Overreach {
        from: u64,
    },
    /// Five logs with this many bytes of data each.
    EmitLogs {
        bytes: usize,
    },
    Pay {
        to: u64,
        wei: u128,
    },
}

/// Where a transaction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Create,
    Account(u64),
    Token,
    LogShapes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub(super) from: u64,
    pub(super) nonce: u64,
    pub(super) action: Action,
}

/// Walks the blocks in order: nonces and counts depend on all that came before.
#[derive(Debug, Default)]
pub(super) struct Script {
    nonces: [u64; ACCOUNTS as usize],
    summary: LoadSummary,
}

impl Script {
    /// The transactions of the next block.
    pub(super) fn block(&mut self, number: u64) -> Vec<Transaction> {
        self.summary.blocks = number;
        actions(number).into_iter().map(|(from, action)| self.send(from, action)).collect()
    }

    pub(super) fn nonces(&self) -> impl Iterator<Item = u64> {
        self.nonces.into_iter()
    }

    pub(super) fn summary(&self) -> LoadSummary {
        self.summary.clone()
    }

    fn send(&mut self, from: u64, action: Action) -> Transaction {
        let slot = &mut self.nonces[(from % ACCOUNTS) as usize];
        let nonce = *slot;
        *slot += 1;
        self.summary.transactions += 1;
        match action {
            Action::DeployToken | Action::DeployLogShapes => self.summary.deployments += 1,
            Action::Transfer { .. } => self.summary.transfers += 1,
            Action::Overdraw { .. } | Action::Overreach { .. } => self.summary.reverts += 1,
            Action::Approve { .. } | Action::EmitLogs { .. } | Action::Pay { .. } => {}
        }
        Transaction { from, nonce, action }
    }
}

/// Sender and action of each transaction of a block.
fn actions(number: u64) -> Vec<(u64, Action)> {
    const TOKEN: u128 = 1_000_000_000_000_000_000;
    match number {
        1 => vec![(0, Action::DeployToken)],
        2 => vec![(1, Action::DeployLogShapes)],
        // Everybody gets more than the script ever lets them pay.
        3 => (1..ACCOUNTS).map(|to| (0, Action::Transfer { to, value: 1_000_000 * TOKEN })).collect(),
        _ if number.is_multiple_of(100) => vec![(number / 100 % ACCOUNTS, Action::DeployToken)],
        // Empty blocks are part of every chain.
        _ if number.is_multiple_of(11) => Vec::new(),
        _ => (0..=number % 5).map(|index| everyday(number, index)).collect(),
    }
}

fn everyday(number: u64, index: u64) -> (u64, Action) {
    let from = (number * 7 + index * 3) % ACCOUNTS;
    // Never the sender itself: 1 to 9 further round.
    let other = (from + 1 + number % (ACCOUNTS - 1)) % ACCOUNTS;
    let amount = u128::from(number * 1_000 + index + 1);
    let action = match (number + index) % 8 {
        0 => Action::Pay { to: other, wei: amount },
        1 => Action::Approve { spender: other, value: amount },
        2 => Action::Overdraw { to: other },
        3 => Action::EmitLogs { bytes: usize::try_from(number % 70).unwrap_or_default() },
        4 => Action::Overreach { from: other },
        _ => Action::Transfer { to: other, value: amount },
    };
    (from, action)
}

impl Transaction {
    pub(super) fn target(&self) -> Target {
        match self.action {
            Action::DeployToken | Action::DeployLogShapes => Target::Create,
            Action::Transfer { .. }
            | Action::Approve { .. }
            | Action::Overdraw { .. }
            | Action::Overreach { .. } => Target::Token,
            Action::EmitLogs { .. } => Target::LogShapes,
            Action::Pay { to, .. } => Target::Account(to),
        }
    }

    pub(super) fn value(&self) -> u128 {
        match self.action {
            Action::Pay { wei, .. } => wei,
            _ => 0,
        }
    }

    /// Creation code or call data, `0x` hex.
    pub(super) fn data<'a>(
        &self,
        account: impl Fn(u64) -> anyhow::Result<&'a str>,
    ) -> anyhow::Result<String> {
        let word = |value: u128| format!("{value:064x}");
        let address =
            |index: u64| account(index).map(|text| format!("{:0>64}", text.trim_start_matches("0x")));
        Ok(match &self.action {
            // A billion tokens.
            Action::DeployToken => {
                format!("0x{}{}", TOKEN_CODE.trim(), word(1_000_000_000_000_000_000_000_000_000))
            }
            Action::DeployLogShapes => format!("0x{}", LOG_SHAPES_CODE.trim()),
            Action::Transfer { to, value } => format!("0xa9059cbb{}{}", address(*to)?, word(*value)),
            Action::Approve { spender, value } => format!("0x095ea7b3{}{}", address(*spender)?, word(*value)),
            Action::Overdraw { to } => format!("0xa9059cbb{}{}", address(*to)?, word(u128::MAX)),
            Action::Overreach { from } => {
                format!("0x23b872dd{}{}{}", address(*from)?, address(self.from)?, word(u128::MAX))
            }
            Action::EmitLogs { bytes } => format!("0x{}", "5a".repeat(*bytes)),
            Action::Pay { .. } => "0x".to_owned(),
        })
    }

    /// Every kind of envelope takes its turn: legacy, access list, dynamic fee. Gas is given, so that no estimate depends on the pool.
    pub(super) fn fees(&self) -> Value {
        const GWEI: u128 = 1_000_000_000;
        let gas = match self.target() {
            Target::Create => 2_000_000_u64,
            _ => 200_000,
        };
        let gas = quantity(gas);
        match self.nonce % 3 {
            0 => {
                json!({ "type": "0x2", "gas": gas, "maxFeePerGas": quantity(5 * GWEI), "maxPriorityFeePerGas": quantity(GWEI) })
            }
            1 => json!({ "type": "0x0", "gas": gas, "gasPrice": quantity(4 * GWEI) }),
            _ => json!({ "type": "0x1", "gas": gas, "gasPrice": quantity(3 * GWEI), "accessList": [] }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_hundred_blocks_hold_something_of_everything() {
        let mut script = Script::default();
        let blocks: Vec<_> = (1..=500).map(|number| script.block(number)).collect();
        let summary = script.summary();
        assert!(summary.deployments >= 5 && summary.transfers > 300 && summary.reverts > 200, "{summary:?}");
        assert!(blocks.iter().filter(|block| block.is_empty()).count() > 20);
        assert_eq!(script.nonces().sum::<u64>(), summary.transactions);
    }

    #[test]
    fn nobody_pays_themselves() {
        for number in 4..2_000 {
            for (from, action) in actions(number) {
                if let Action::Transfer { to, .. } | Action::Pay { to, .. } = action {
                    assert_ne!(from, to, "block {number}");
                }
            }
        }
    }
}
