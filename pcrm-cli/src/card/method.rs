//! The ways to train a language model, as its card describes them.

use serde::Serialize;

/// The algorithm that trained a language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainingMethod {
    /// Supervised fine-tuning.
    Sft,
    /// Direct preference optimisation, bounded or not.
    Dpo,
    /// Kahneman–Tversky optimisation.
    Kto,
    /// Proximal policy optimisation.
    Ppo,
    /// REINFORCE leave-one-out.
    Rloo,
    /// Group relative policy optimisation.
    Grpo,
    /// Online direct preference optimisation.
    OnlineDpo,
}

/// Descriptions of a method for its card, in Markdown.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct About {
    /// The tag on the Hub.
    pub tag: &'static str,
    /// One sentence about the model.
    pub summary: &'static str,
    /// The objective with its source; empty if the summary is enough.
    pub objective: &'static str,
    /// The meaning of the measures.
    pub caution: &'static str,
}

impl TrainingMethod {
    /// Returns the descriptions of this method.
    pub fn about(self) -> About {
        let on_policy = "The reward comes from the sources above: a high reward shows that the policy \
                         satisfies them, not that its answers are good.";
        match self {
            Self::Sft => About {
                tag: "sft",
                summary: "A language model fine-tuned on completions.",
                objective: "",
                caution: "The loss measures how well the model predicts given completions.",
            },
            Self::Dpo => About {
                tag: "dpo",
                summary: "A language model trained on preferences: it learned to make the preferred one \
                          of two answers more likely, relative to a reference.",
                objective: "The margin of a pair is Δ = β·[ln π(y_w|x)/π_ref(y_w|x) − ln \
                            π(y_l|x)/π_ref(y_l|x)] (direct preference optimisation, [arXiv \
                            2305.18290](https://arxiv.org/abs/2305.18290)). A constraint adds −ln σ(Δ\\* \
                            − Δ), where Δ\\* is its bound for the pair ([arXiv \
                            2404.00978](https://arxiv.org/abs/2404.00978)); `none` adds nothing.",
                caution: "The implicit reward β·ln π/π_ref shows how the policy ranks given answers, not \
                          how good its own answers are.",
            },
            Self::Kto => About {
                tag: "kto",
                summary: "A language model trained on single answers, each labelled desirable or \
                          undesirable, compared with a reference.",
                objective: "Kahneman–Tversky optimisation ([arXiv \
                            2402.01306](https://arxiv.org/abs/2402.01306)) with the implicit reward β·ln \
                            π(y|x)/π_ref(y|x).",
                caution: "The implicit reward shows how the policy ranks given answers, not how good its \
                          own answers are.",
            },
            Self::Ppo => About {
                tag: "ppo",
                summary: "A language model trained on its own answers and their rewards.",
                objective: "Proximal policy optimisation ([arXiv \
                            1707.06347](https://arxiv.org/abs/1707.06347)) with a critic and a KL \
                            penalty.",
                caution: on_policy,
            },
            Self::Rloo => About {
                tag: "rloo",
                summary: "A language model trained on its own answers and their rewards.",
                objective: "REINFORCE leave-one-out ([arXiv \
                            2402.14740](https://arxiv.org/abs/2402.14740)): an answer's baseline is the \
                            mean reward of the other answers to its prompt.",
                caution: on_policy,
            },
            Self::Grpo => About {
                tag: "grpo",
                summary: "A language model trained on its own answers and their rewards.",
                objective: "Group relative policy optimisation ([arXiv \
                            2402.03300](https://arxiv.org/abs/2402.03300)): an answer's advantage is its \
                            reward relative to the other answers to its prompt.",
                caution: on_policy,
            },
            Self::OnlineDpo => About {
                tag: "online-dpo",
                summary: "A language model trained on pairs of its own answers, the best and the worst by \
                          reward.",
                objective: "Online direct preference optimisation ([arXiv \
                            2402.04792](https://arxiv.org/abs/2402.04792)). A constraint bounds the \
                            margin of each pair ([arXiv 2404.00978](https://arxiv.org/abs/2404.00978)); \
                            `none` adds nothing.",
                caution: on_policy,
            },
        }
    }
}
