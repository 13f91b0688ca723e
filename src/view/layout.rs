//! Which layout when: breakpoints as data.

use ratatui::layout::Rect;

/// How a screen of some size is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// One line each for phase, lag, errors, verification and the rollback key.
    Survival,
    /// The runbook over four lines of log.
    Small,
    /// Runbook, evidence, signals and log in boxes.
    Medium,
    /// As medium, with wider signals and a short log.
    Wide,
    /// As medium, with the tables and charts.
    Large,
}

/// Least width, least height, layout; the first that fits is taken.
pub const BREAKPOINTS: [(u16, u16, Layout); 5] = [
    (160, 50, Layout::Large),
    (160, 30, Layout::Wide),
    (100, 30, Layout::Medium),
    (60, 16, Layout::Small),
    (0, 0, Layout::Survival),
];

/// The layout of a screen of this size.
#[must_use]
pub fn layout_of(area: Rect) -> Layout {
    BREAKPOINTS
        .iter()
        .find(|(width, height, _)| area.width >= *width && area.height >= *height)
        .map_or(Layout::Survival, |(.., layout)| *layout)
}

/// Whether boxes can be drawn on a screen of this size. Where they cannot, they must not be answered.
#[must_use]
pub fn shows_boxes(area: Rect) -> bool {
    layout_of(area) != Layout::Survival
}

/// Rectangles of the home view between the annunciator and the key line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Panes {
    /// Runbook.
    pub runbook: Rect,
    /// Evidence; empty where there is no room.
    pub evidence: Rect,
    /// Tables; empty where there is no room.
    pub tables: Rect,
    /// Signals; empty where there is no room.
    pub signals: Rect,
    /// Log.
    pub log: Rect,
}

/// Divides the body of the home view. `tables` is how many rows the tables pane wants.
#[must_use]
pub fn panes(layout: Layout, body: Rect, tables: u16) -> Panes {
    let log_height = match layout {
        Layout::Survival => 0,
        Layout::Small => 4,
        Layout::Medium => (body.height * 9 / 37).clamp(6, 9),
        Layout::Wide => 7,
        Layout::Large => 17,
    };
    let (top, log) = split_rows(body, body.height.saturating_sub(log_height));
    if matches!(layout, Layout::Survival | Layout::Small) {
        return Panes { runbook: top, log, ..Panes::default() };
    }
    let left = match layout {
        Layout::Large => body.width / 2,
        Layout::Wide => 80,
        _ => body.width * 7 / 12,
    };
    let (runbook, right) = split_columns(top, left);
    if layout == Layout::Large {
        let (evidence, rest) = split_rows(right, 14);
        let (tables, signals) = split_rows(rest, (tables + 3).min(rest.height.saturating_sub(12)));
        return Panes { runbook, evidence, tables, signals, log };
    }
    let (evidence, signals) = split_rows(right, right.height / 2);
    Panes { runbook, evidence, signals, log, ..Panes::default() }
}

/// The first `height` rows and the rest.
#[must_use]
pub const fn split_rows(area: Rect, height: u16) -> (Rect, Rect) {
    let first = if height < area.height { height } else { area.height };
    (Rect { height: first, ..area }, Rect { y: area.y + first, height: area.height - first, ..area })
}

/// The first `width` columns and the rest.
#[must_use]
pub const fn split_columns(area: Rect, width: u16) -> (Rect, Rect) {
    let first = if width < area.width { width } else { area.width };
    (Rect { width: first, ..area }, Rect { x: area.x + first, width: area.width - first, ..area })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_of_the_table() {
        let cases = [
            (59, 24, Layout::Survival),
            (80, 15, Layout::Survival),
            (60, 16, Layout::Small),
            (80, 24, Layout::Small),
            (99, 60, Layout::Small),
            (200, 29, Layout::Small),
            (100, 30, Layout::Medium),
            (120, 40, Layout::Medium),
            (159, 60, Layout::Medium),
            (160, 49, Layout::Wide),
            (160, 50, Layout::Large),
            (200, 60, Layout::Large),
        ];
        for (width, height, layout) in cases {
            assert_eq!(layout_of(Rect::new(0, 0, width, height)), layout, "{width}x{height}");
        }
    }

    #[test]
    fn panes_cover_the_body_without_overlap() {
        for (width, height, _) in BREAKPOINTS.into_iter().chain([(120, 40, Layout::Medium), (299, 99, Layout::Large)]) {
            let area = Rect::new(0, 2, width, height.saturating_sub(3));
            let layout = layout_of(Rect::new(0, 0, width, height));
            let p = panes(layout, area, 6);
            let all = [p.runbook, p.evidence, p.tables, p.signals, p.log];
            let sum: u32 = all.iter().map(|r| r.area()).sum();
            assert_eq!(sum, area.area(), "{width}x{height}");
            for (i, a) in all.iter().enumerate() {
                for b in &all[i + 1..] {
                    assert!(a.intersection(*b).is_empty(), "{a} {b}");
                }
            }
        }
    }
}
