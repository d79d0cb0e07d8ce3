//! cronjobs
mod plan; mod timetable; mod view;
