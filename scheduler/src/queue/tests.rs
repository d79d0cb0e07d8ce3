//! The queue, told as stories.
