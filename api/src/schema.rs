//! The schema table: what every kind consists of, and how its fields behave in each codec, in
//! patches, in server-side apply and in defaulting.
//!
//! Built-in types are static data generated from `schema/types.txt` (see `schema/README.md`).
//! Types of custom resources are built at run time out of the same parts, so that one code path
//! serves both.

mod builtin;
mod go_type;
pub(crate) mod rule;

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

pub use builtin::{Kind, kind, kinds, type_named};
pub(crate) use go_type::GoType;
pub use rule::{Rule, Setter};

/// A struct: its fields in the order in which Go writes them.
#[derive(Debug)]
pub struct Type {
    /// Name without package, such as `PodSpec`.
    pub name: Cow<'static, str>,
    /// Go package below `k8s.io/api`, such as `core/v1`; its last segment is Go's qualifier.
    pub package: &'static str,
    /// What stands before the name in OpenAPI, such as `io.k8s.api.core.v1`.
    pub openapi: &'static str,
    /// Protobuf package; empty for a type without protobuf.
    pub proto: &'static str,
    /// Whether it has `kind` and `apiVersion`, and `items`.
    pub role: Role,
    /// Owned as a whole in server-side apply.
    pub atomic: bool,
    /// `discriminator{field=GoField,...}`, as OpenAPI publishes them.
    pub unions: &'static [&'static str],
    /// In the order in which Go writes them.
    pub fields: Cow<'static, [Field]>,
    /// Positions in `fields`, sorted by name.
    pub by_name: Cow<'static, [u8]>,
    /// Positions of the fields that protobuf has, in the order of their tags.
    pub by_tag: Cow<'static, [u8]>,
    /// Default rules in the order in which they apply; empty if nothing in it has any.
    pub rules: &'static [Rule],
}

impl Type {
    /// The position of the field of this name. `hint` is where it probably is: documents mostly
    /// have their fields in the type's order, so that the search is one comparison.
    pub fn position(&self, name: &str, hint: usize) -> Option<usize> {
        if self
            .fields
            .get(hint)
            .is_some_and(|field| field.name == name)
        {
            return Some(hint);
        }
        let found = self
            .by_name
            .binary_search_by(|at| self.fields[usize::from(*at)].name.as_ref().cmp(name));
        found.ok().map(|at| usize::from(self.by_name[at]))
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.position(name, 0).map(|at| &self.fields[at])
    }

    /// Whether `kind` and `apiVersion` come first: they are in no protobuf message.
    pub fn has_type_meta(&self) -> bool {
        self.role != Role::Struct
    }

    /// The name in OpenAPI, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn definition(&self) -> String {
        format!("{}.{}", self.openapi, self.name)
    }
}

/// What a type is in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A part of something.
    Struct,
    /// Has `kind` and `apiVersion`.
    Object,
    /// Also has `items`.
    List,
}

/// One field of a type.
#[derive(Debug, Clone)]
pub struct Field {
    /// Name in JSON.
    pub name: Cow<'static, str>,
    /// What its value looks like.
    pub shape: Shape,
    /// When it is written.
    pub presence: Presence,
    /// Protobuf tag; 0 means not in protobuf.
    pub tag: u8,
    /// Tags of the messages around `tag`, outermost first, padded with 0: Go embeds some structs,
    /// which JSON flattens and protobuf does not. Such messages are always written.
    pub hops: [u8; 2],
    /// Topology in server-side apply, where it is not its type's own.
    pub topology: Topology,
    /// What only some readers ask for.
    pub facts: Facts,
}

impl Field {
    /// Where it is on the wire: the tags from the outermost message inwards, one a byte, padded
    /// with zeros at the end. Sorting by it groups what shares a message.
    pub(crate) fn wire_path(&self) -> [u8; 3] {
        match self.hops {
            [0, _] => [self.tag, 0, 0],
            [hop, 0] => [hop, self.tag, 0],
            [outer, inner] => [outer, inner, self.tag],
        }
    }
}

/// The less frequented facts of a field.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Go's named type of a scalar, such as `core/v1.PodPhase`; empty if it has none.
    pub alias: &'static str,
    /// The constants of that type.
    pub values: &'static [&'static str],
    /// Go's named type of a map's keys.
    pub key_alias: &'static str,
    /// OpenAPI requires it.
    pub required: bool,
    /// OpenAPI's default, as JSON.
    pub default: Option<&'static str>,
    /// OpenAPI declares the zero value as default.
    pub zero_default: bool,
    /// How strategic merge patch treats it.
    pub patch: Patch,
    /// Marked immutable upstream.
    pub immutable: bool,
    /// Defaulting rounds its quantities up to thousandths.
    pub milli: bool,
    /// Feature gates that it depends on.
    pub gates: &'static [&'static str],
}

/// What most fields have.
pub const NO_FACTS: Facts = Facts {
    alias: "",
    values: &[],
    key_alias: "",
    required: false,
    default: None,
    zero_default: false,
    patch: Patch {
        merge: false,
        replace: false,
        retain_keys: false,
        key: "",
    },
    immutable: false,
    milli: false,
    gates: &[],
};

/// When a field is written, which in Go follows from its type and its `omitempty`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Unless it is zero or empty: a value with `omitempty`.
    NonZero,
    /// Always: a value without. A nil list, map or time is `null`.
    Always,
    /// When it is there, zero or not: a pointer with `omitempty`.
    Pointer,
    /// Always, absent as `null`: a pointer without.
    PointerNull,
}

/// Topology in server-side apply where a field overrides its type's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// As the shape says.
    Natural,
    /// Owned as a whole.
    Atomic,
    /// Owned field by field.
    Granular,
}

/// Strategies of strategic merge patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// Lists are merged, by `key` or, if they hold scalars, as sets.
    pub merge: bool,
    /// Replaced as a whole.
    pub replace: bool,
    /// A patch clears what its `$retainKeys` does not name.
    pub retain_keys: bool,
    /// The field that identifies a list's elements; empty if there is none.
    pub key: &'static str,
}

/// What a value looks like.
#[derive(Debug, Clone)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A number of 32 bits.
    Int32,
    /// A number of 64 bits.
    Int64,
    /// A 64-bit floating-point number.
    Float,
    /// UTF-8 text.
    String,
    /// Bytes; base64 in JSON.
    Bytes,
    /// RFC 3339 in UTC, whole seconds.
    Time,
    /// RFC 3339 in UTC, six digits of a second.
    MicroTime,
    /// Go's notation, such as `1h30m0s`.
    Duration,
    /// An exact number with a suffix, in canonical form.
    Quantity,
    /// An int32 or a string.
    IntOrString,
    /// Any JSON value: a cell of a Table.
    Any,
    /// An embedded object of any kind (RawExtension).
    Raw,
    /// Any JSON value, as bytes in protobuf (apiextensions' JSON).
    Json,
    /// A set of field paths (managedFields).
    FieldsV1,
    /// JSONSchemaProps or something else.
    SchemaOr(SchemaOr, &'static Type),
    /// A struct.
    Struct(Link<Type>),
    /// A list.
    List(Link<List>),
    /// A map whose keys are strings.
    Map(Link<Map>),
}

/// What may stand in place of a JSONSchemaProps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaOr {
    /// A list of them.
    Array,
    /// `true` or `false`.
    Bool,
    /// A list of strings.
    Strings,
}

/// A list's elements and how they are told apart.
#[derive(Debug)]
pub struct List {
    /// What each element looks like.
    pub item: Shape,
    /// Topology in server-side apply.
    pub topology: ListTopology,
    /// In protobuf a message of its own, with the elements under tag 1.
    pub wrapped: bool,
}

/// How server-side apply tells the elements of a list apart.
#[derive(Debug, PartialEq, Eq)]
pub enum ListTopology {
    /// Owned as a whole.
    Atomic,
    /// By value.
    Set,
    /// By the values of these fields.
    Map(Cow<'static, [&'static str]>),
}

/// A map's values.
#[derive(Debug)]
pub struct Map {
    /// What each value looks like.
    pub item: Shape,
}

/// A reference to a part of a schema: static if built in, counted if made at run time.
#[derive(Debug)]
pub enum Link<T: 'static> {
    /// Built in.
    Static(&'static T),
    /// Made at run time.
    Shared(Arc<T>),
}

impl<T> Clone for Link<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Static(inner) => Self::Static(inner),
            Self::Shared(inner) => Self::Shared(Arc::clone(inner)),
        }
    }
}

impl<T> Deref for Link<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Static(inner) => inner,
            Self::Shared(inner) => inner,
        }
    }
}
