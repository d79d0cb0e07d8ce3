//! Documents: JSON-like trees that decode without an allocation per node and are edited in place.
//!
//! A document is two growing buffers: *cells*, 24 bytes each, and the *text* that keys and strings
//! point into. Decoding moves the input into the text, so that strings without escapes cost
//! nothing. Children are linked lists of cells: insertion, removal and reordering are a change of
//! links, and an [`Id`] stays valid whatever happens around it. What edits leave behind is freed
//! with the document, which lives as long as a request.
//!
//! A document knows no schema. [`crate::conform`] makes one conform to a type; after that its
//! fields stand in the type's order, which is what makes every later walk along the type cheap.

mod compare;
mod edit;
mod entries;
mod literal;

pub use edit::New;
pub(crate) use entries::Entries;

/// A tree of JSON values.
#[derive(Clone)]
pub struct Doc {
    pub(crate) cells: Vec<Cell>,
    pub(crate) text: String,
    pub(crate) root: Id,
}

/// A place in a document. Ids of one document mean nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub(crate) u32);

impl Id {
    /// No cell: ends a list of children.
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) at: u32,
    pub(crate) len: u32,
}

/// One value, with its key if it stands in an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) key: Span,
    pub(crate) next: Id,
    pub(crate) kind: Kind,
    /// Payload: first and last child, a span, or both halves of an integer.
    pub(crate) a: u32,
    pub(crate) b: u32,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `false`.
    False,
    /// `true`.
    True,
    /// An integer that fits in 64 bits.
    Int,
    /// Any other number, kept as it was written.
    Number,
    /// Text.
    String,
    /// A list.
    List,
    /// Keys and values.
    Object,
}

impl Kind {
    /// What Go's JSON decoder calls such a value in its errors.
    pub(crate) fn go_name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::False | Kind::True => "bool",
            Kind::Int | Kind::Number => "number",
            Kind::String => "string",
            Kind::List => "array",
            Kind::Object => "object",
        }
    }
}

impl Cell {
    pub(crate) fn container(kind: Kind) -> Self {
        Self {
            key: Span::default(),
            next: Id::NONE,
            kind,
            a: Id::NONE.0,
            b: Id::NONE.0,
        }
    }

    pub(crate) fn plain(kind: Kind) -> Self {
        Self {
            key: Span::default(),
            next: Id::NONE,
            kind,
            a: 0,
            b: 0,
        }
    }

    pub(crate) fn text(kind: Kind, span: Span) -> Self {
        Self {
            a: span.at,
            b: span.len,
            ..Self::plain(kind)
        }
    }

    pub(crate) fn int(value: i64) -> Self {
        let mut cell = Self::plain(Kind::Int);
        cell.set_int(value);
        cell
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the two halves"
    )]
    pub(crate) fn set_int(&mut self, value: i64) {
        self.kind = Kind::Int;
        (self.a, self.b) = ((value as u64 >> 32) as u32, value as u32);
    }

    #[expect(clippy::cast_possible_wrap, reason = "the two halves")]
    pub(crate) fn as_int(&self) -> i64 {
        (u64::from(self.a) << 32 | u64::from(self.b)) as i64
    }

    pub(crate) fn span(&self) -> Span {
        Span {
            at: self.a,
            len: self.b,
        }
    }

    pub(crate) fn first(&self) -> Id {
        match self.kind {
            Kind::List | Kind::Object => Id(self.a),
            _ => Id::NONE,
        }
    }
}

impl Doc {
    /// An empty object.
    pub fn new() -> Self {
        Self {
            cells: vec![Cell::container(Kind::Object)],
            text: String::new(),
            root: Id(0),
        }
    }

    /// The value that everything else stands in.
    pub fn root(&self) -> Node<'_> {
        self.node(self.root)
    }

    /// The place of [`Self::root`].
    pub fn top(&self) -> Id {
        self.root
    }

    /// The value at a place.
    pub fn node(&self, id: Id) -> Node<'_> {
        Node { doc: self, id }
    }

    /// The place of a key's value in an object; none elsewhere. Of equal keys the last counts.
    pub fn find(&self, object: Id, key: &str) -> Option<Id> {
        self.node(object).get(key).map(|node| node.id)
    }

    /// The place that a path of keys leads to.
    pub fn find_path(&self, path: &[&str]) -> Option<Id> {
        path.iter()
            .try_fold(self.root, |at, key| self.find(at, key))
    }

    /// Whether a value is what Go calls zero, or empty.
    pub(crate) fn is_zero(&self, id: Id) -> bool {
        let cell = self.cell(id);
        match cell.kind {
            Kind::Null | Kind::False => true,
            Kind::Int => cell.as_int() == 0,
            Kind::String => cell.b == 0,
            Kind::List | Kind::Object => cell.first() == Id::NONE,
            Kind::True | Kind::Number => false,
        }
    }

    pub(crate) fn cell(&self, id: Id) -> &Cell {
        &self.cells[id.index()]
    }

    pub(crate) fn slice(&self, span: Span) -> &str {
        &self.text[span.at as usize..(span.at + span.len) as usize]
    }
}

impl Default for Doc {
    fn default() -> Self {
        Self::new()
    }
}

/// A value of a document, for reading.
#[derive(Clone, Copy)]
pub struct Node<'d> {
    doc: &'d Doc,
    id: Id,
}

impl<'d> Node<'d> {
    /// Its place.
    pub fn id(self) -> Id {
        self.id
    }

    /// The document that it is part of.
    pub fn doc(self) -> &'d Doc {
        self.doc
    }

    pub(crate) fn cell(self) -> &'d Cell {
        self.doc.cell(self.id)
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        self.cell().kind
    }

    /// Its key, if it stands in an object, else empty.
    pub fn key(self) -> &'d str {
        self.doc.slice(self.cell().key)
    }

    /// The value of a key; none if this is no object. Of equal keys the last counts.
    pub fn get(self, key: &str) -> Option<Self> {
        if self.kind() != Kind::Object {
            return None;
        }
        self.children().filter(|child| child.key() == key).last()
    }

    /// The value that a path of keys leads to.
    pub fn path(self, path: &[&str]) -> Option<Self> {
        path.iter().try_fold(self, |at, key| at.get(key))
    }

    /// The text at a path of keys, empty if there is none.
    pub fn text(self, path: &[&str]) -> &'d str {
        self.path(path).and_then(Self::as_str).unwrap_or_default()
    }

    /// The elements of a list or the values of an object.
    pub fn children(self) -> Children<'d> {
        Children {
            doc: self.doc,
            next: self.cell().first(),
        }
    }

    /// The element at an index; none if this is no list.
    pub fn item(self, index: usize) -> Option<Self> {
        if self.kind() != Kind::List {
            return None;
        }
        self.children().nth(index)
    }

    /// No elements, no keys.
    pub fn is_empty(self) -> bool {
        self.cell().first() == Id::NONE
    }

    /// The number of elements or keys.
    pub fn len(self) -> usize {
        self.children().count()
    }

    /// How many levels of lists and objects there are, this one included; 0 for a scalar.
    pub fn depth(self) -> usize {
        let mut deepest = 0;
        let mut todo = vec![(self, 0)];
        while let Some((node, above)) = todo.pop() {
            if matches!(node.kind(), Kind::List | Kind::Object) {
                deepest = deepest.max(above + 1);
                todo.extend(node.children().map(|child| (child, above + 1)));
            }
        }
        deepest
    }

    /// `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The text of a string.
    pub fn as_str(self) -> Option<&'d str> {
        let cell = self.cell();
        (cell.kind == Kind::String).then(|| self.doc.slice(cell.span()))
    }

    /// An integer of 64 bits.
    pub fn as_i64(self) -> Option<i64> {
        let cell = self.cell();
        (cell.kind == Kind::Int).then(|| cell.as_int())
    }

    /// Any number.
    pub fn as_f64(self) -> Option<f64> {
        let cell = self.cell();
        match cell.kind {
            #[expect(clippy::cast_precision_loss, reason = "as Go converts")]
            Kind::Int => Some(cell.as_int() as f64),
            Kind::Number => self.doc.slice(cell.span()).parse().ok(),
            _ => None,
        }
    }

    /// `true` or `false`.
    pub fn as_bool(self) -> Option<bool> {
        match self.kind() {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// A number that is no 64-bit integer, as it was written.
    pub fn as_number(self) -> Option<&'d str> {
        let cell = self.cell();
        (cell.kind == Kind::Number).then(|| self.doc.slice(cell.span()))
    }
}

/// The values in a list or object, in order.
#[derive(Clone)]
pub struct Children<'d> {
    doc: &'d Doc,
    next: Id,
}

impl<'d> Iterator for Children<'d> {
    type Item = Node<'d>;

    fn next(&mut self) -> Option<Node<'d>> {
        let id = self.next.some()?;
        self.next = self.doc.cell(id).next;
        Some(self.doc.node(id))
    }
}
