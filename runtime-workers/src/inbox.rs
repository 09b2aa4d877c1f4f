//! Received messages that no claim has offered yet, and what each message means. Pure.

use std::collections::{HashSet, VecDeque};

use dagwright_aws::queue_receive::{ReceiptHandle, ReceivedMessage};
use dagwright_contracts::{message::TaskMessage, tasks::Offer};

/// The version of [`TaskMessage`] that this worker reads.
const VERSION: u32 = 1;

/// An offer with its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The (task, attempt).
    pub offer: Offer,
    /// Its message.
    pub handle: ReceiptHandle,
    /// How often the message was received, this time included.
    pub receive_count: u32,
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

/// Reads a message. A text that is none of ours, or of a version to come, is an error; its message has to go on to the
/// dead-letter queue, where people see it.
///
/// # Errors
/// Why it cannot be read.
pub fn read(message: &ReceivedMessage) -> Result<Offered, String> {
    let body: TaskMessage = serde_json::from_str(&message.body).map_err(|error| error.to_string())?;
    if body.v != VERSION {
        return Err(format!("its version is {}, this worker reads {VERSION}", body.v));
    }
    Ok(Offered {
        offer: Offer { task_id: body.task_id, attempt: body.attempt },
        handle: message.handle.clone(),
        receive_count: message.receive_count,
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
        let id = Uuid::from_u128(7);
        let offered = read(&message(&format!(r#"{{"v":1,"taskId":"{id}","attempt":2}}"#))).unwrap();
        assert_eq!(offered.offer, Offer { task_id: TaskId(id), attempt: 2 });
        assert!(read(&message("hello")).is_err());
        assert!(
            read(&message(&format!(r#"{{"v":2,"taskId":"{id}","attempt":2}}"#)))
                .unwrap_err()
                .contains("version")
        );
    }

    #[test]
    fn a_redelivered_offer_waits_once_and_gives_its_new_handle_back() {
        let mut inbox = Inbox::default();
        let offer = Offer { task_id: TaskId(Uuid::nil()), attempt: 1 };
        let put = |inbox: &mut Inbox, handle: &str, receive_count| {
            inbox.put(Offered { offer, handle: ReceiptHandle(handle.into()), receive_count })
        };
        assert_eq!(put(&mut inbox, "a", 1), None);
        assert_eq!(put(&mut inbox, "b", 2), Some(ReceiptHandle("b".into())));
        assert_eq!(inbox.len(), 1);
        assert_eq!(inbox.take(5)[0].handle, ReceiptHandle("a".into()));
        assert!(inbox.is_empty());
    }
}
