//! Default rules as `build.rs` writes them; [`crate::defaults`] applies them.

/// A step of a type's defaulting, in the order in which they are taken: the type's own rules first,
/// then what concerns its fields, in their order.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// Sets something.
    Set(Setter),
    /// Rounds the quantities in the map at this position up to thousandths.
    Round(u8),
    /// Applies the rules of the type in the field at this position.
    Visit(u8),
}

/// Sets a place to a value if all conditions hold.
#[derive(Debug, Clone, Copy)]
pub struct Setter {
    /// The lists and maps that the place stands in, from the outermost inwards, each relative to the
    /// element before; the rule applies to every innermost element.
    pub(crate) each: &'static [&'static [&'static str]],
    pub(crate) target: Place,
    pub(crate) keys: Keys,
    pub(crate) value: Value,
    pub(crate) when: &'static [Condition],
}

/// A place relative to what a rule is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// How many of [`Setter::each`] it stands in.
    pub(crate) depth: u8,
    /// Keys from there on.
    pub(crate) path: &'static [&'static str],
    /// The key that the rule is applied for comes last.
    pub(crate) keyed: bool,
}

/// The keys that a rule is applied for, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keys {
    /// It is applied once.
    None,
    /// Those of a map.
    Of(Place),
    /// The resources that a pod's containers have `limits` or `requests` of.
    Aggregate(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    Is(Literal),
    Copy(Place),
    /// In lower case.
    Lower(Place),
    /// With something appended.
    Concat(Place, &'static str),
    /// The name of the first version, of those in the list, that is stored.
    StorageVersions(Place),
    Now,
    /// What [`Keys::Aggregate`] found for the key.
    Aggregate,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Str(&'static str),
    /// A list or an object.
    Json(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Condition {
    Absent(Place),
    /// Absent or Go's zero value.
    Zero(Place),
    /// There, and no empty list.
    Present(Place),
    /// One of the values, or none of them. What is absent equals the zero values.
    In(Place, &'static [Literal], bool),
    /// The image's tag is `latest`, said or not, or it is something else.
    Latest(Place, bool),
    /// All of one of these.
    Any(&'static [&'static [Self]]),
    /// The volume has no source.
    NoVolumeSource,
    /// About the key that the rule is applied for.
    Key(Key),
}

/// What the name of a resource may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key {
    HugePage,
    /// Pods as a whole may ask for it.
    PodLevel,
    /// Requests may be below limits.
    Overcommitted,
}
