//! What cells are made of: values at paths, ages, and the notations that many kinds share.

use api::doc::Node;
use api::selector::LabelSelector;
use api::values::time::{self, Moment, Precision};

/// One cell of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number.
    Int(i64),
    /// `true` or `false`.
    Bool(bool),
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

/// What stands in a column. Paths are keys with dots between.
pub(super) enum Col {
    /// The object's name.
    Name,
    /// How long ago it was made.
    Age,
    /// Text; empty if absent.
    Text(&'static str),
    /// Text, or something else if absent.
    Or(&'static str, &'static str),
    /// A number; 0 if absent.
    Int(&'static str),
    /// `true` or `false`; the second if absent.
    Bool(&'static str, bool),
    /// How many elements or keys there are.
    Count(&'static str),
    /// Names of the containers in the pod specification there.
    Containers(&'static str),
    /// Images of the containers in the pod specification there.
    Images(&'static str),
    /// Labels, or `<none>`.
    Labels(&'static str),
    /// A label selector, or `<none>`.
    Selector(&'static str),
    /// Something of its own.
    Of(fn(&View<'_>) -> Cell),
    /// Several columns at once.
    Many(fn(&View<'_>, &mut Vec<Cell>)),
}

/// An object at a time.
#[derive(Clone, Copy)]
pub(super) struct View<'d> {
    pub(super) object: Node<'d>,
    pub(super) now: Moment,
}

impl<'d> View<'d> {
    pub(super) fn cells(&self, columns: &[Col]) -> Vec<Cell> {
        let mut cells = Vec::with_capacity(columns.len());
        for column in columns {
            let cell = match *column {
                Col::Many(print) => {
                    print(self, &mut cells);
                    continue;
                }
                Col::Of(print) => print(self),
                Col::Name => self.name().into(),
                Col::Age => self.since("metadata.creationTimestamp").into(),
                Col::Text(path) => self.text(path).into(),
                Col::Or(path, absent) => match self.at(path) {
                    Some(node) => node.as_str().unwrap_or_default().into(),
                    None => absent.into(),
                },
                Col::Int(path) => Cell::Int(self.int(path)),
                Col::Bool(path, absent) => Cell::Bool(self.bool(path).unwrap_or(absent)),
                Col::Count(path) => Cell::Int(self.count(path)),
                Col::Containers(path) => self.of_containers(path, "name").into(),
                Col::Images(path) => self.of_containers(path, "image").into(),
                Col::Labels(path) => format_labels(self.at(path)).into(),
                Col::Selector(path) => match selector(self.at(path)) {
                    Some(text) if text.is_empty() => "<none>".into(),
                    Some(text) => text.into(),
                    None => "<error>".into(),
                },
            };
            cells.push(cell);
        }
        cells
    }

    pub(super) fn name(&self) -> &'d str {
        self.text("metadata.name")
    }

    /// What is at a path and not `null`.
    pub(super) fn at(&self, path: &str) -> Option<Node<'d>> {
        at(self.object, path)
    }

    pub(super) fn text(&self, path: &str) -> &'d str {
        text(self.object, path)
    }

    pub(super) fn int(&self, path: &str) -> i64 {
        int(self.object, path)
    }

    pub(super) fn bool(&self, path: &str) -> Option<bool> {
        self.at(path).and_then(Node::as_bool)
    }

    pub(super) fn items(&self, path: &str) -> impl Iterator<Item = Node<'d>> + Clone + use<'d> {
        items(self.object, path)
    }

    pub(super) fn count(&self, path: &str) -> i64 {
        let count = self.at(path).map_or(0, Node::len);
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    /// Someone wants it gone.
    pub(super) fn is_deleted(&self) -> bool {
        self.at("metadata.deletionTimestamp").is_some()
    }

    /// How long ago the time at a path was.
    pub(super) fn since(&self, path: &str) -> String {
        self.ago(moment(self.at(path)))
    }

    pub(super) fn ago(&self, then: Option<Moment>) -> String {
        then.map_or("<unknown>".to_string(), |then| {
            human_duration(seconds_between(then, self.now))
        })
    }

    /// When it was made, as kinds without columns of their own say it.
    pub(super) fn created(&self) -> Cell {
        match self.text("metadata.creationTimestamp") {
            "" => "0001-01-01T00:00:00Z".into(),
            time => time.into(),
        }
    }

    fn of_containers(&self, spec: &str, field: &str) -> String {
        let containers = self.items(&format!("{spec}.containers"));
        joined(containers.map(|container| text(container, field)), ",")
    }
}

/// What is at a path and not `null`.
pub(super) fn at<'d>(node: Node<'d>, path: &str) -> Option<Node<'d>> {
    let found = path.split('.').try_fold(node, |node, key| node.get(key))?;
    (!found.is_null()).then_some(found)
}

pub(super) fn text<'d>(node: Node<'d>, path: &str) -> &'d str {
    at(node, path).and_then(Node::as_str).unwrap_or_default()
}

pub(super) fn int(node: Node<'_>, path: &str) -> i64 {
    at(node, path).and_then(Node::as_i64).unwrap_or_default()
}

pub(super) fn items<'d>(
    node: Node<'d>,
    path: &str,
) -> impl Iterator<Item = Node<'d>> + Clone + use<'d> {
    at(node, path).into_iter().flat_map(Node::children)
}

pub(super) fn joined<'d>(texts: impl Iterator<Item = &'d str>, separator: &str) -> String {
    texts.collect::<Vec<_>>().join(separator)
}

/// The condition of a type: of several the first.
pub(super) fn condition<'d>(object: Node<'d>, path: &str, kind: &str) -> Option<Node<'d>> {
    items(object, path).find(|condition| text(*condition, "type") == kind)
}

/// A time that is set.
pub(super) fn moment(node: Option<Node<'_>>) -> Option<Moment> {
    let time = time::parse(node?.as_str()?, Precision::Seconds).ok()?;
    (time != time::UNSET).then_some(time)
}

/// Whole seconds, counted towards zero.
pub(super) fn seconds_between(from: Moment, to: Moment) -> i64 {
    let nanos =
        |moment: Moment| i128::from(moment.seconds) * 1_000_000_000 + i128::from(moment.nanos);
    i64::try_from((nanos(to) - nanos(from)) / 1_000_000_000).unwrap_or(i64::MAX)
}

/// Labels as text, or `<none>`.
pub(super) fn format_labels(labels: Option<Node<'_>>) -> String {
    let pairs = labels.into_iter().flat_map(Node::children);
    let mut pairs: Vec<String> = pairs
        .map(|pair| format!("{}={}", pair.key(), pair.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    if pairs.is_empty() {
        "<none>".to_string()
    } else {
        pairs.join(",")
    }
}

/// A label selector as text; none if it is no valid one.
pub(super) fn selector(selector: Option<Node<'_>>) -> Option<String> {
    match selector {
        None => Some(String::new()),
        Some(selector) => LabelSelector::from_node(selector)
            .ok()
            .map(|selector| selector.to_string()),
    }
}

/// A duration as people say it, with two or three significant figures.
pub fn human_duration(seconds: i64) -> String {
    let two = |big: i64, unit: char, small: i64, small_unit: char| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match () {
        // Clocks differ a little.
        () if seconds < -1 => "<invalid>".to_string(),
        () if seconds < 0 => "0s".to_string(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, 'd', hours % 24, 'h'),
        () if days < 2 * 365 => format!("{days}d"),
        () if days < 8 * 365 => two(years, 'y', days % 365, 'd'),
        () => format!("{years}y"),
    }
}
