//! What the query service is shown.

use dagwright_state::{
    catalog::snapshot,
    serve::{Owner, flip},
};
use sqlx::PgPool;

use crate::support::{World, version};

#[sqlx::test]
async fn a_snapshot_shows_served_objects_by_range(db: PgPool) {
    let world = World::new(db).await;
    let mut conn = world.db.acquire().await.expect("connect");
    let namespaces = ["demo".to_owned()];
    let unserved = snapshot(&mut conn, &namespaces).await.expect("snapshot");
    assert_eq!((unserved.len(), unserved[0].version, unserved[0].objects.len()), (1, None, 0));

    world.work_to_rest(world.job_id).await;
    let owner = Owner { namespace: "demo".into(), kind: "ChainSync".into(), name: "local".into() };
    flip(&mut conn, &owner).await.expect("flip");
    let served = snapshot(&mut conn, &namespaces).await.expect("snapshot").remove(0);
    assert_eq!(
        (served.version, served.read_roles.as_slice()),
        (Some(version(0)), ["analyst".to_owned()].as_slice())
    );
    let starts: Vec<_> = served.objects.iter().map(|o| o.range.start()).collect();
    assert_eq!(starts, (0..10).map(|n| n * 10).collect::<Vec<_>>());
    assert_eq!(
        snapshot(&mut conn, &["other".to_owned()]).await.expect("snapshot"),
        [],
        "nothing of other namespaces"
    );
}
