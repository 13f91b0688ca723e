//! Rollback orders and the facts of the rollback thread, in the order in which they are true.

use tokio::sync::{mpsc, watch};

use super::handle::RollbackOrder;
use crate::domain::run::Event;

/// Where the engine's loop receives them.
pub(super) struct Orders {
    /// Orders, straight from the sender.
    pub given: watch::Receiver<Option<RollbackOrder>>,
    /// Facts of the rollback thread.
    pub facts: mpsc::UnboundedReceiver<Event>,
}

/// What was received: an order, a fact of the rollback thread, or both.
#[derive(Debug, PartialEq)]
pub(super) struct Heard {
    /// The order, which comes before the fact.
    pub order: Option<RollbackOrder>,
    /// The fact.
    pub facts: Option<Event>,
}

impl Orders {
    /// The next order or fact. Nothing is lost when this is dropped half-way.
    pub async fn next(&mut self) -> Heard {
        loop {
            let facts = tokio::select! {
                biased;
                Ok(()) = self.given.changed() => None,
                Some(event) = self.facts.recv() => Some(event),
                else => std::future::pending().await,
            };
            match facts {
                Some(event) => return self.with_order(event),
                None => {
                    if let Some(order) = self.given.borrow_and_update().clone() {
                        return Heard { order: Some(order), facts: None };
                    }
                }
            }
        }
    }

    /// The rollback thread receives an order at the same time as this loop. Its fact may be here although the order was
    /// not there yet when this loop checked; without its order the fact would be refused and missing from the record.
    fn with_order(&mut self, event: Event) -> Heard {
        let unseen = self.given.has_changed().unwrap_or(false);
        Heard { order: unseen.then(|| self.given.borrow_and_update().clone()).flatten(), facts: Some(event) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::run::{Actor, Cause, Level};

    #[tokio::test]
    async fn what_the_way_back_tells_never_comes_before_its_order() {
        let (order_tx, given) = watch::channel(None);
        let (facts_tx, facts) = mpsc::unbounded_channel();
        let mut orders = Orders { given, facts };
        let order = RollbackOrder { by: Actor::Auto, cause: Cause::Asked };
        let note = |text: &str| Event::Note { level: Level::Info, source: "undo".to_owned(), text: text.to_owned() };

        let heard = |order: Option<&RollbackOrder>, facts| Heard { order: order.cloned(), facts };

        // Both are there: the order first, and only once.
        order_tx.send_replace(Some(order.clone()));
        facts_tx.send(note("a")).unwrap();
        assert_eq!(orders.next().await, heard(Some(&order), None));
        assert_eq!(orders.next().await, heard(None, Some(note("a"))));

        // The order came after the loop had checked for one, and the thread was quicker.
        order_tx.send_replace(Some(order.clone()));
        assert_eq!(orders.with_order(note("b")), heard(Some(&order), Some(note("b"))));
        facts_tx.send(note("c")).unwrap();
        assert_eq!(orders.next().await, heard(None, Some(note("c"))), "it was seen with the fact before");
    }
}
