//! The verbs over a whole server: every kind lives and dies, and reads are as fresh as they say.

mod every_kind;
mod garbage;
mod reads;
mod scales;
