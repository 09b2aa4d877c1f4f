//! Received messages that no claim has offered yet, and what each message means. Pure.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use dagwright_aws::queue_receive::{ReceiptHandle, ReceivedMessage};
use dagwright_contracts::{message::TaskMessage, tasks::Offer};

/// The version of [`TaskMessage`] that this worker reads.
const VERSION: u32 = 1;

/// A third of the shortest visibility that a pool's queue may have.
const FIRST_HIDE: Duration = Duration::from_secs(3);
/// A third of [`HIDDEN`].
const NEXT_HIDE: Duration = Duration::from_secs(20);
/// How long a message that waits is hidden at a time. Should this worker be killed, its row is published again earlier than that.
pub const HIDDEN: Duration = Duration::from_secs(60);

/// An offer with its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The (task, attempt).
    pub offer: Offer,
    /// Its message.
    pub handle: ReceiptHandle,
    /// How often the message was received, this time included.
    pub receive_count: u32,
    /// When it is to be hidden again, should it still wait.
    pub hide_at: Instant,
}

/// Messages in waiting, each offer once.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: VecDeque<Offered>,
    known: HashSet<Offer>,
}

impl Inbox {
    /// Puts an offer at the end. When it waits already, the handle comes back: its message is to be deleted, for the queue
    /// counts every delivery, and a message delivered too often costs a healthy task an attempt. The offer itself stays, and
    /// should this worker be lost, its row is published again.
    #[must_use]
    pub fn put(&mut self, offered: Offered) -> Option<ReceiptHandle> {
        if !self.known.insert(offered.offer) {
            return Some(offered.handle);
        }
        self.waiting.push_back(offered);
        None
    }

    /// Takes at most `max`, oldest first.
    pub fn take(&mut self, max: usize) -> Vec<Offered> {
        let taken: Vec<_> = self.waiting.drain(..max.min(self.waiting.len())).collect();
        for offered in &taken {
            self.known.remove(&offered.offer);
        }
        taken
    }

    /// The messages that are to be hidden for another [`HIDDEN`]: shown again, a message would be received by somebody else, and one
    /// that was received too often is a dead letter and costs its task an attempt that nobody made.
    pub fn to_hide(&mut self, now: Instant) -> Vec<ReceiptHandle> {
        let due = self.waiting.iter_mut().filter(|offered| offered.hide_at <= now);
        due.map(|offered| {
            offered.hide_at = now + NEXT_HIDE;
            offered.handle.clone()
        })
        .collect()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Reads a message that came at `now`. A text that is none of ours, or of a version to come, is an error; its message has to go on to the
/// dead-letter queue, where people see it.
///
/// # Errors
/// Why it cannot be read.
pub fn read(message: &ReceivedMessage, now: Instant) -> Result<Offered, String> {
    let body: TaskMessage = serde_json::from_str(&message.body).map_err(|error| error.to_string())?;
    if body.v != VERSION {
        return Err(format!("its version is {}, this worker reads {VERSION}", body.v));
    }
    Ok(Offered {
        offer: Offer { task_id: body.task_id, attempt: body.attempt },
        handle: message.handle.clone(),
        receive_count: message.receive_count,
        hide_at: now + FIRST_HIDE,
    })
}

#[cfg(test)]
mod tests {
    use dagwright_core::ids::TaskId;
    use uuid::Uuid;

    use super::*;

    fn message(body: &str) -> ReceivedMessage {
        ReceivedMessage {
            id: "m".into(),
            handle: ReceiptHandle("h".into()),
            body: body.into(),
            receive_count: 1,
        }
    }

    #[test]
    fn a_message_is_an_offer_or_poison() {
        let (id, now) = (Uuid::from_u128(7), Instant::now());
        let read = |body: &str| read(&message(body), now);
        let offered = read(&format!(r#"{{"v":1,"taskId":"{id}","attempt":2}}"#)).unwrap();
        assert_eq!(offered.offer, Offer { task_id: TaskId(id), attempt: 2 });
        assert!(read("hello").is_err());
        let later = read(&format!(r#"{{"v":2,"taskId":"{id}","attempt":2}}"#));
        assert!(later.unwrap_err().contains("version"));
    }

    #[test]
    fn a_redelivered_offer_waits_once_and_gives_its_new_handle_back() {
        let mut inbox = Inbox::default();
        let offer = Offer { task_id: TaskId(Uuid::nil()), attempt: 1 };
        let put = |inbox: &mut Inbox, handle: &str, receive_count| {
            let hide_at = Instant::now();
            inbox.put(Offered { offer, handle: ReceiptHandle(handle.into()), receive_count, hide_at })
        };
        assert_eq!(put(&mut inbox, "a", 1), None);
        assert_eq!(put(&mut inbox, "b", 2), Some(ReceiptHandle("b".into())));
        assert_eq!(inbox.len(), 1);
        assert_eq!(inbox.take(5)[0].handle, ReceiptHandle("a".into()));
        assert!(inbox.is_empty());
    }

    #[test]
    fn what_waits_is_hidden_well_before_it_would_be_shown_and_what_was_taken_is_not() {
        let (mut inbox, now) = (Inbox::default(), Instant::now());
        let seconds = |n| now + Duration::from_secs(n);
        let body = |attempt| format!(r#"{{"v":1,"taskId":"{}","attempt":{attempt}}}"#, Uuid::nil());
        for (attempt, came) in [(1, 0), (2, 1)] {
            assert_eq!(inbox.put(read(&message(&body(attempt)), seconds(came)).unwrap()), None);
        }
        assert!(inbox.to_hide(seconds(2)).is_empty(), "most are taken at once");
        assert_eq!(inbox.to_hide(seconds(3)).len(), 1);
        assert_eq!(inbox.to_hide(seconds(4)).len(), 1, "the other one");
        assert!(inbox.to_hide(seconds(22)).is_empty());
        assert_eq!(inbox.to_hide(seconds(24)).len(), 2, "long before a minute is over");
        inbox.take(1);
        assert_eq!(inbox.to_hide(seconds(60)).len(), 1);
    }
}
