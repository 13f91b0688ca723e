//! Orders to go back and what the rollback thread tells, in the order in which they are true.

use tokio::sync::{mpsc, watch};

use super::handle::RollbackOrder;
use crate::domain::run::Event;

/// Where the engine's loop hears of going back.
pub(super) struct Orders {
    /// Orders, straight from whoever gives them.
    pub given: watch::Receiver<Option<RollbackOrder>>,
    /// What the rollback thread tells.
    pub told: mpsc::UnboundedReceiver<Event>,
}

/// What was heard of going back: an order, a fact of the rollback thread, or both.
#[derive(Debug, PartialEq)]
pub(super) struct Back {
    /// The order, which comes before the fact.
    pub order: Option<RollbackOrder>,
    /// The fact.
    pub told: Option<Event>,
}

impl Orders {
    /// The next order or fact. Nothing is lost when this is dropped half-way.
    pub async fn next(&mut self) -> Back {
        loop {
            let told = tokio::select! {
                biased;
                Ok(()) = self.given.changed() => None,
                Some(event) = self.told.recv() => Some(event),
                else => std::future::pending().await,
            };
            match told {
                Some(event) => return self.with_order(event),
                None => {
                    if let Some(order) = self.given.borrow_and_update().clone() {
                        return Back { order: Some(order), told: None };
                    }
                }
            }
        }
    }

    /// The rollback thread hears of an order when this loop does. What it tells may be here although the order was not
    /// there yet when this loop looked; without its order it would be refused and missing from the record.
    fn with_order(&mut self, event: Event) -> Back {
        let unseen = self.given.has_changed().unwrap_or(false);
        Back { order: unseen.then(|| self.given.borrow_and_update().clone()).flatten(), told: Some(event) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::run::{Actor, Cause, Level};

    #[tokio::test]
    async fn what_the_way_back_tells_never_comes_before_its_order() {
        let (order_tx, given) = watch::channel(None);
        let (told_tx, told) = mpsc::unbounded_channel();
        let mut orders = Orders { given, told };
        let order = RollbackOrder { by: Actor::Auto, cause: Cause::Asked };
        let note = |text: &str| Event::Note { level: Level::Info, source: "undo".to_owned(), text: text.to_owned() };

        let heard = |order: Option<&RollbackOrder>, told| Back { order: order.cloned(), told };

        // Both are there: the order first, and only once.
        order_tx.send_replace(Some(order.clone()));
        told_tx.send(note("a")).unwrap();
        assert_eq!(orders.next().await, heard(Some(&order), None));
        assert_eq!(orders.next().await, heard(None, Some(note("a"))));

        // The order came after the loop had looked for one, and the thread was quicker.
        order_tx.send_replace(Some(order.clone()));
        assert_eq!(orders.with_order(note("b")), heard(Some(&order), Some(note("b"))));
        told_tx.send(note("c")).unwrap();
        assert_eq!(orders.next().await, heard(None, Some(note("c"))), "it was seen with the fact before");
    }
}
