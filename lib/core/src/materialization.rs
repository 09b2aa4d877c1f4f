//! A dataset version is the hash of how it is made.
//!
//! [`MaterializationHash::of`] is the one place that decides what enters the hash. **Not** in it: ranges and mode, chunk
//! size, sibling outputs, verification policy, pools, storage, names, scaling, retries, timeouts, priorities.

use std::fmt;

use sha2::{Digest, Sha256};

/// The hash of one output of one job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaterializationHash(pub [u8; 32]);

impl fmt::Display for MaterializationHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for MaterializationHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MaterializationHash({self})")
    }
}

/// One input of a job, as far as it decides the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The name that the job's config uses.
    pub port: String,
    /// How input ranges map to output ranges, canonical.
    pub mapping: String,
    /// The equality filter, canonical.
    pub filter: String,
    /// The materialisation of what is read.
    pub reads: MaterializationHash,
}

/// Everything that decides the bytes of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Operator id, snake_case.
    pub operator: String,
    /// Raised by an operator only when its output changes.
    pub semantics: u32,
    /// Output port.
    pub output: String,
    /// Version of the output's column schema.
    pub column_schema: u32,
    /// The config fields that the operator's type marks as affecting output, as `(path, canonical value)`.
    pub config: Vec<(String, String)>,
    /// What it reads.
    pub inputs: Vec<Input>,
}

impl MaterializationHash {
    /// The hash of a recipe. Config fields and inputs are sorted first: the order of a list in a manifest decides nothing.
    #[must_use]
    pub fn of(recipe: &Recipe) -> Self {
        let mut hasher = Fields(Sha256::new());
        hasher.field("dagwright/materialization/1");
        hasher.field(&recipe.operator);
        hasher.field(&recipe.semantics.to_string());
        hasher.field(&recipe.output);
        hasher.field(&recipe.column_schema.to_string());
        let mut config: Vec<_> = recipe.config.iter().collect();
        config.sort();
        hasher.field(&config.len().to_string());
        for (path, value) in config {
            hasher.field(path);
            hasher.field(value);
        }
        let mut inputs: Vec<_> = recipe.inputs.iter().collect();
        inputs.sort_by(|a, b| a.port.cmp(&b.port));
        hasher.field(&inputs.len().to_string());
        for input in inputs {
            hasher.field(&input.port);
            hasher.field(&input.mapping);
            hasher.field(&input.filter);
            hasher.bytes(&input.reads.0);
        }
        Self(hasher.0.finalize().into())
    }
}

/// Hashes fields with their lengths, so that no two sequences of fields share an encoding.
struct Fields(Sha256);

impl Fields {
    fn field(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.0.update((value.len() as u64).to_be_bytes());
        self.0.update(value);
    }
}

/// The recipe of one output of the `evm_ingest` operator.
#[must_use]
pub fn evm_ingest(
    semantics: u32,
    output: &str,
    column_schema: u32,
    chain_id: u64,
    genesis_hash: &str,
    profile_semantics: u32,
) -> Recipe {
    Recipe {
        operator: "evm_ingest".into(),
        semantics,
        output: output.into(),
        column_schema,
        config: vec![
            ("chain.id".into(), chain_id.to_string()),
            ("chain.genesisHash".into(), genesis_hash.to_ascii_lowercase()),
            ("chain.profileSemantics".into(), profile_semantics.to_string()),
        ],
        inputs: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        let reads = MaterializationHash([7; 32]);
        Recipe {
            operator: "sql_transform".into(),
            semantics: 1,
            output: "transfers".into(),
            column_schema: 1,
            config: vec![("sql".into(), "select 1".into()), ("b".into(), "2".into())],
            inputs: vec![Input {
                port: "logs".into(),
                mapping: "identity".into(),
                filter: String::new(),
                reads,
            }],
        }
    }

    #[test]
    fn every_field_of_a_recipe_changes_the_hash() {
        let base = MaterializationHash::of(&recipe());
        let edits: Vec<fn(&mut Recipe)> = vec![
            |r| r.operator.push('x'),
            |r| r.semantics += 1,
            |r| r.output.push('x'),
            |r| r.column_schema += 1,
            |r| r.config[0].1.push('x'),
            |r| r.config[0].0.push('x'),
            |r| drop(r.config.pop()),
            |r| r.inputs[0].port.push('x'),
            |r| r.inputs[0].mapping.push('x'),
            |r| r.inputs[0].filter.push('x'),
            |r| r.inputs[0].reads.0[0] ^= 1,
            |r| drop(r.inputs.pop()),
        ];
        for (n, edit) in edits.iter().enumerate() {
            let mut changed = recipe();
            edit(&mut changed);
            assert_ne!(base, MaterializationHash::of(&changed), "edit {n} must change the hash");
        }
    }

    #[test]
    fn the_order_of_config_does_not_change_the_hash() {
        let mut swapped = recipe();
        swapped.config.reverse();
        assert_eq!(MaterializationHash::of(&recipe()), MaterializationHash::of(&swapped));
    }

    /// A changed value here means that every dataset of every user would be rebuilt: never update it in passing.
    #[test]
    fn the_hash_of_an_ingest_output_is_frozen() {
        let genesis = "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3";
        let hash = MaterializationHash::of(&evm_ingest(1, "blocks", 1, 1, genesis, 1));
        assert_eq!(hash.to_string(), "c334fd1a8f50362da2f3baa51d7ad35bddcd3beaf8d6d4f0d94b13bc3c05c7e0");
    }
}
