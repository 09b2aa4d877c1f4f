//! Dags: their wiring is validated; the engine that runs them comes later.

mod validate;

use dagwright_crds::{Dag, DagStatus, conditions as c};
use std::time::Duration;

use crate::{
    context::Context,
    engine::{Kind, Pass, Stall, Verdict},
    error::PassError,
};

/// Dags.
pub struct Dags;

impl Kind for Dags {
    type Object = Dag;
    type Status = DagStatus;
    const KIND: &'static str = "Dag";
    const FINALIZER: bool = false;

    async fn reconcile(_: &Context, dag: &Dag) -> Result<Pass<DagStatus>, PassError> {
        let stall = validate::wiring(&dag.spec).err().unwrap_or_else(|| {
            Stall::new(
                c::ENGINE_NOT_AVAILABLE,
                "the Dag is valid, but this version of Dagwright does not run Dags yet; an upgrade will run it as it stands",
            )
        });
        Ok(Pass { again: Duration::from_secs(3600), ..Pass::of(Verdict::Stalled(stall)) })
    }
}
