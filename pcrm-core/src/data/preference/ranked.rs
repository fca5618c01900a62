//! The ranked sets of records with several answers to a prompt.

use super::oasst::{Posts, read_tree};
use super::several::{Sets, read_several};
use super::{AnswerSet, Origin, Ties};
use crate::data::load::{ReadRow, Record, Refusal};
use crate::data::schema::Schema;

/// Reader of ranked sets, which numbers those of a file.
pub(in crate::data) struct RankedSets {
    sets: Sets,
    posts: Posts,
}

impl RankedSets {
    /// Creates a reader; with [`Ties::Drop`], a set whose answers all tie is refused.
    pub(in crate::data) fn new(ties: Ties) -> Self {
        Self { sets: Sets::new(ties), posts: Posts::default() }
    }

    /// Returns the treatment of ties.
    pub(in crate::data) fn ties(&self) -> Ties {
        self.sets.ties
    }

    /// Reads the sets of a record with several answers. OpenAssistant messages give theirs at the end of the file.
    pub(in crate::data) fn read(
        &mut self,
        schema: Schema,
        record: &Record,
        origin: &Origin,
    ) -> Result<Vec<AnswerSet>, Refusal> {
        match schema {
            Schema::OasstTrees => read_tree(record, origin, &mut self.sets),
            Schema::OasstMessages => self.posts.add(record, origin).map(|()| Vec::new()),
            schema => read_several(schema, record, origin, &mut self.sets).map(|set| vec![set]),
        }
    }

    /// Adds the sets that need the whole file.
    pub(in crate::data) fn end_file(&mut self, out: &mut Vec<ReadRow<AnswerSet>>) {
        self.posts.sets(&mut self.sets, out);
        self.sets.end_file();
    }
}
