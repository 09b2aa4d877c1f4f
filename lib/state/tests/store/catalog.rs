//! What the query service is shown.

use dagwright_state::{
    catalog::{CatalogSize, datasets, pin, sizes},
    serve::{Owner, flip},
};
use sqlx::PgPool;

use crate::support::{World, dataset, version};

#[sqlx::test]
async fn a_pin_shows_served_objects_by_range_of_the_datasets_that_were_asked_for(db: PgPool) {
    let world = World::new(db).await;
    world.add_dataset(1, "logs").await;
    world.add_output(world.job_id, "core", 1, "logs").await;
    let mut conn = world.db.acquire().await.expect("connect");
    let unserved = pin(&mut conn, &[dataset(0)]).await.expect("pin");
    assert_eq!((unserved.len(), unserved[0].version, unserved[0].objects.len()), (1, None, 0));

    world.work_to_rest(world.job_id).await;
    let owner = Owner { namespace: "demo".into(), kind: "ChainSync".into(), name: "local".into() };
    flip(&mut conn, &owner).await.expect("flip");
    let mut pinned = pin(&mut conn, &[dataset(0)]).await.expect("pin");
    assert_eq!(pinned.len(), 1, "not what nobody asked for");
    let served = pinned.remove(0);
    assert_eq!(
        (served.version, served.read_roles.as_slice()),
        (Some(version(0)), ["analyst".to_owned()].as_slice())
    );
    let starts: Vec<_> = served.objects.iter().map(|o| o.range.start()).collect();
    assert_eq!(starts, (0..10).map(|n| n * 10).collect::<Vec<_>>());

    let size = sizes(&mut conn, &[dataset(0), dataset(7)]).await.expect("sizes");
    let wanted = CatalogSize { objects: 10, rows: 100, bytes: 1000 };
    assert_eq!(size.into_iter().collect::<Vec<_>>(), [(dataset(0), wanted)]);
    world.run("UPDATE datasets SET deleted_at = clock_timestamp() WHERE name = 'blocks'").await;
    assert_eq!(pin(&mut conn, &[dataset(0)]).await.expect("pin"), []);
}

#[sqlx::test]
async fn datasets_are_those_of_the_namespaces(db: PgPool) {
    let world = World::new(db).await;
    let mut conn = world.db.acquire().await.expect("connect");
    for (namespace, expected) in [("demo", 1), ("*", 1), ("other", 0)] {
        let found = datasets(&mut conn, &[namespace.to_owned()]).await.expect("datasets");
        assert_eq!(found.len(), expected, "{namespace}");
    }
}
