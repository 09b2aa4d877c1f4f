//! Generated YAML of the API types.

use anyhow::{Context, bail};

pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let dir = crate::root().join("crds/yaml");
    let files = dagwright_crds::yaml::files();
    if check {
        let stale: Vec<_> = files
            .iter()
            .filter(|(name, text)| std::fs::read_to_string(dir.join(name)).ok().as_ref() != Some(text))
            .map(|(name, _)| name.as_str())
            .collect();
        if !stale.is_empty() {
            bail!("stale in crds/yaml: {}; run `cargo xtask crds`", stale.join(", "));
        }
        return Ok(());
    }
    std::fs::create_dir_all(&dir).context("create crds/yaml")?;
    for (name, text) in files {
        std::fs::write(dir.join(&name), text).with_context(|| format!("write crds/yaml/{name}"))?;
    }
    Ok(())
}
