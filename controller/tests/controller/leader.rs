use dagwright_state::desired::{Fence, current_epoch};

use crate::world::World;

/// A stale leader is refused by Postgres, whatever it believes.
#[tokio::test]
async fn a_stale_epoch_writes_nothing() {
    let world = World::start().await;
    let mut conn = world.state.acquire().await.unwrap();
    let old = Fence::take(&mut conn, "test-lease", "a").await.unwrap();
    drop(old.begin(&world.state).await.unwrap());
    let new = Fence::take(&mut conn, "test-lease", "b").await.unwrap();
    assert_eq!(current_epoch(&mut conn, "test-lease").await.unwrap(), new.epoch);
    let refused = old.begin(&world.state).await.err().unwrap();
    assert_eq!(refused.category(), "stale_leader");
    new.begin(&world.state).await.unwrap();
}
