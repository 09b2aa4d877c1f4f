//! Files generated from the API types: the CustomResourceDefinitions, and the reference of condition reasons.

use std::{fmt::Write, path::PathBuf};

use anyhow::{Context, bail};

pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = crate::root();
    let crds = dagwright_crds::yaml::files()
        .into_iter()
        .map(|(name, text)| (root.join("crds/yaml").join(name), text));
    let files: Vec<(PathBuf, String)> = crds.chain([(root.join("docs/reasons.md"), reasons())]).collect();
    if check {
        let stale =
            files.iter().filter(|(path, text)| std::fs::read_to_string(path).ok().as_ref() != Some(text));
        let stale: Vec<_> =
            stale.map(|(path, _)| path.strip_prefix(&root).unwrap_or(path).display().to_string()).collect();
        if !stale.is_empty() {
            bail!("stale: {}; run `cargo xtask crds`", stale.join(", "));
        }
        return Ok(());
    }
    for (path, text) in files {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn reasons() -> String {
    let mut text = String::from(
        "<!-- Generated from crds/src/conditions.rs by `cargo xtask crds`: do not edit. -->\n\
         # Reasons of conditions\n\n\
         `kubectl get dagwright` shows the reason of `Ready`; `kubectl describe` shows every condition with its message, which names\n\
         the object and the field. `Ready` says that a spec is accepted and that nothing needs a human, never that data is complete:\n\
         that is `Synced` (ChainSync). `Stalled` stands only while a human must act.\n\n\
         | reason | what it means | what to do |\n|---|---|---|\n",
    );
    for (name, means, remedy) in dagwright_crds::conditions::REASONS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | {means} | {remedy} |");
    }
    text
}
