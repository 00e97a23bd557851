//! A result of the console: columns, rows, and how they become messages.

use crate::wire::TooLong;
use crate::wire::backend::{Type, put_command_complete, put_data_row, put_row_description};
use bytes::BytesMut;
use std::borrow::Cow;

/// Names and types of columns.
pub(super) type Columns = &'static [(&'static str, Type)];

/// One value, as text; `None` is NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell(Option<Cow<'static, str>>);

/// As many cells as there are columns.
pub(super) type Row = Vec<Cell>;

/// A result.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) columns: Columns,
    pub(super) rows: Vec<Row>,
}

impl Table {
    pub(super) fn new(columns: Columns, rows: impl IntoIterator<Item = Row>) -> Self {
        Self { columns, rows: rows.into_iter().collect() }
    }

    /// Writes RowDescription, DataRows and CommandComplete.
    pub(super) fn put(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        put_row_description(out, self.columns)?;
        for row in &self.rows {
            debug_assert_eq!(row.len(), self.columns.len());
            put_data_row(out, row.iter().map(Cell::as_text))?;
        }
        put_command_complete(out, "SHOW")
    }
}

impl Cell {
    /// NULL.
    pub(super) const NULL: Self = Self(None);

    pub(super) fn as_text(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl From<&'static str> for Cell {
    fn from(text: &'static str) -> Self {
        Self(Some(Cow::Borrowed(text)))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self(Some(Cow::Owned(text)))
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::NULL, Into::into)
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl From<$number> for Cell {
            fn from(number: $number) -> Self {
                number.to_string().into()
            }
        })*
    };
}

numbers!(i32, u16, u32, u64, usize);

/// A row of values that become [`Cell`]s.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$($crate::admin::table::Cell::from($value)),*] };
}

pub(super) use row;
