//! The scores of a request, and the names in a response.

/// The scores of a request, in the order of its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreAnswer {
    /// Rewards, or σ of them, as requested.
    pub scores: Vec<f32>,
    /// The tokens that each score was computed from.
    pub tokens: Vec<usize>,
}

/// The names in a response.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The id of this response.
    pub id: &'a str,
    /// The name of the model.
    pub model: &'a str,
    /// The model's only label.
    pub label: &'a str,
    /// Seconds since 1970.
    pub created: u64,
    /// The duration of the request, in seconds.
    pub seconds: f64,
}

impl ScoreAnswer {
    /// Returns the indices of all scores in descending order; equal scores keep their order.
    pub fn ranked(&self) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.scores.len()).collect();
        places.sort_by(|left, right| self.scores[*right].total_cmp(&self.scores[*left]));
        places
    }
}
