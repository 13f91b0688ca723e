//! What was done to one key, step by step: each state it had since it was last applied, as a change of what stands on the
//! old side.

use super::{Applying, name};
use crate::domain::mapping::{ItemChange, Resolution, RowTree, item_digest};
use crate::domain::value::{Key, Record, Value};
use crate::ports::{OutboxChange, OwnWrite, PortResult};

/// The steps of one key.
pub(super) struct Steps<'c> {
    /// What was captured of it.
    pub change: &'c OutboxChange,
    /// The key in words.
    pub named: Key,
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// What stands there.
    stands: Option<Record<'static>>,
    /// The states that are gone through: places among the captured ones.
    states: Vec<usize>,
}

/// One step.
pub(super) struct Step {
    /// The record it came from.
    pub record: i64,
    /// What is done.
    pub change: ItemChange,
    /// Digest of the item once it is made.
    after: u128,
}

impl<'c> Steps<'c> {
    /// The steps of a key; nothing where the old side's own customers changed it too.
    pub(super) async fn of(of: &Applying<'_>, change: &'c OutboxChange) -> PortResult<Option<Self>> {
        let Applying { ports, table, way, .. } = of;
        let Ok(key) = way.inverse.key(&change.key) else { return Ok(None) };
        let stands = ports.items.of(table).read(table, &key).await?;
        let first = change.states.first().and_then(Option::as_ref);
        // What was signed of it was never written: it stands as it was before.
        if !way.inverse.says(first, stands.as_ref()) {
            return Ok(None);
        }
        let states: Vec<usize> = (0..change.states.len()).collect();
        let found = through(of, change, stands.clone(), &states);
        Ok(found.map(|steps| Self { change, named: name(way, change), steps, stands, states }))
    }

    /// Leaves out the state that began with this record, as if the key had gone past it; `false` where it is the last
    /// one.
    pub(super) fn without(&mut self, of: &Applying<'_>, record: i64) -> bool {
        let last = self.states.len().saturating_sub(1);
        let state = |place: &usize| self.change.from.get(*place) == Some(&record);
        let Some(place) = self.states.iter().position(state).filter(|place| *place > 0 && *place < last) else {
            return false;
        };
        let mut states = self.states.clone();
        states.remove(place);
        let Some(steps) = through(of, self.change, self.stands.clone(), &states) else { return false };
        (self.steps, self.states) = (steps, states);
        true
    }

    /// Every image that stands there for a moment.
    pub(super) fn images(&self) -> impl Iterator<Item = OwnWrite> {
        self.steps.iter().map(|step| OwnWrite {
            key: self.named.clone(),
            digest: step.after,
            record: step.record,
            resolution: Resolution::None,
        })
    }
}

/// The steps from what stands there through these states.
fn through(
    of: &Applying<'_>,
    change: &OutboxChange,
    stands: Option<Record<'static>>,
    states: &[usize],
) -> Option<Vec<Step>> {
    let carry = |pair: [Option<RowTree>; 2], item: Option<&Record<'static>>| {
        let carried = of.way.inverse.carry(&change.key, &pair, item, None, (of.rule)()).ok();
        carried.filter(|step| step.resolution == Resolution::None).map(|step| step.change)
    };
    let (mut steps, mut item) = (Vec::new(), stands);
    // The row and its item before they were removed: what no column carries is in the item alone.
    let mut gone: Option<(RowTree, Record<'static>)> = None;
    for pair in states.windows(2) {
        let [before, after] = pair else { continue };
        let (before, record) = (change.states.get(*before)?, *change.from.get(*after)?);
        let after = change.states.get(*after)?;
        let mut made = carry([before.clone(), after.clone()], item.as_ref())?;
        match &mut made {
            ItemChange::Nothing => continue,
            ItemChange::Delete { .. } => gone = before.clone().zip(item.take()),
            ItemChange::Write(write) => {
                if let Some((row, old)) = gone.take().filter(|_| !write.exists) {
                    match carry([Some(row), after.clone()], Some(&old)) {
                        Some(ItemChange::Write(changed)) => write.after = changed.after,
                        Some(ItemChange::Nothing) => write.after = old,
                        Some(ItemChange::Delete { .. }) | None => return None,
                    }
                    let of_key = |name: &str| write.key.get(name).is_some();
                    let fields =
                        write.after.fields.iter().filter(|(name, value)| !of_key(name) && *value != Value::Null);
                    write.set = fields.map(|(name, value)| (name.to_string(), value.clone())).collect();
                }
                item = Some(write.after.clone());
            }
        }
        steps.push(Step { record, after: item_digest(item.as_ref()), change: made });
    }
    Some(steps)
}
