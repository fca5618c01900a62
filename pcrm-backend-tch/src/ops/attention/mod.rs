//! Attention over a sequence tree.
//!
//! On the CPU: libtorch's fused attention, tile by tile (see `plan.rs`), in f32 whatever the type, forward and backward
//! called by name. Elsewhere: its `scaled_dot_product_attention`, segment by segment (see `segments.rs`).

mod plan;
mod segments;

use std::sync::Arc;

use pcrm_core::{Attention, Mask, PlannedTree};
use tch::{Device, Kind, Tensor as Torch};

use super::Torched;
use super::history::Graph;
use crate::workers;
use plan::{Part, Plan, STEP, TILE, Tile};

/// Of every tile of every tree the attended values and ln Σ eˣ.
type SavedTiles = Vec<Vec<[Torch; 2]>>;

/// A plan and what its forward kept.
pub(crate) struct Tiles {
    plan: Arc<Plan>,
    saved: SavedTiles,
}

/// What the backward needs of the forward.
pub(crate) enum Saved {
    /// Of tiles.
    Tiles(Tiles),
    /// libtorch's own history.
    Segments(Graph),
}

/// q `[queries, heads, dim]`, k and v `[rows, kv_heads, dim]` → `[queries, heads, dim]`. `None` is saved unless `keeps`.
pub(crate) fn forward(
    qkv: [&Torch; 3],
    tree: &PlannedTree,
    how: &Attention<'_>,
    keeps: bool,
) -> Torched<(Torch, Option<Saved>)> {
    if qkv[0].device() != Device::Cpu {
        let (value, graph) = segments::forward(qkv, tree, how, keeps)?;
        return Ok((value, graph.map(Saved::Segments)));
    }
    let plan = Plan::shared(tree, how);
    let (value, saved) = forward_tiles(&plan, qkv, keeps)?;
    Ok((value, keeps.then_some(Saved::Tiles(Tiles { plan, saved }))))
}

/// The gradients of q, k and v.
pub(crate) fn backward(saved: Saved, qkv: [&Torch; 3], gradient: &Torch) -> Torched<[Torch; 3]> {
    match saved {
        Saved::Tiles(Tiles { plan, saved }) => backward_tiles(&plan, qkv, gradient, saved),
        Saved::Segments(graph) => graph.backward(gradient),
    }
}

fn forward_tiles(plan: &Plan, [q, k, v]: [&Torch; 3], keeps: bool) -> Torched<(Torch, SavedTiles)> {
    let out = Torch::f_empty(q.size(), (q.kind(), q.device()))?;
    let inputs = Inputs::new(plan, [q, k, v])?;
    let tasks = plan.trees.iter().map(|parts| (parts, inputs.share(), out.shallow_clone())).collect();
    let attend = |(parts, inputs, out): (&Vec<Part>, Inputs, Torch)| {
        let mut saved = Vec::new();
        for part in parts {
            let (keys, values) = (inputs.k.of(part)?, inputs.v.of(part)?);
            for tile in &part.tiles {
                let [a, b, c] = [asking(&inputs.q, tile)?, cut(&keys, tile)?, cut(&values, tile)?];
                let mask = inputs.template.as_ref().map(|template| mask(template, tile)).transpose()?;
                let (attended, totals) = Torch::f_internal_scaled_dot_product_flash_attention_for_cpu(
                    &a,
                    &b,
                    &c,
                    0.0,
                    false,
                    mask.as_ref(),
                    plan.scale,
                )?;
                put(&out, &attended, tile)?;
                if keeps {
                    saved.push([attended, totals]);
                }
            }
        }
        Ok(saved)
    };
    let saved = match plan.mask {
        Mask::Causal { .. } => workers::each_or_divided(tasks, attend)?,
        // Tiles are not filled up.
        Mask::Full => workers::each(Device::Cpu, tasks, attend)?,
    };
    Ok((out, saved))
}

fn backward_tiles(
    plan: &Plan,
    [q, k, v]: [&Torch; 3],
    gradient: &Torch,
    saved: SavedTiles,
) -> Torched<[Torch; 3]> {
    let kind = q.kind();
    let d_q = Torch::f_empty(q.size(), (kind, q.device()))?;
    let inputs = Inputs::new(plan, [q, k, v])?;
    let gradient = widened(gradient)?;
    let (d_k, d_v) = (inputs.k.zeros()?, inputs.v.zeros()?);
    let mut tasks = Vec::with_capacity(plan.trees.len());
    for (parts, saved) in plan.trees.iter().zip(saved) {
        let targets = (d_q.shallow_clone(), d_k.share(), d_v.share());
        tasks.push((parts, saved, inputs.share(), gradient.shallow_clone(), targets));
    }
    workers::each_or_divided(tasks, |(parts, saved, inputs, gradient, (d_q, d_k, d_v))| {
        let mut saved = saved.into_iter();
        for part in parts {
            let (keys, values) = (inputs.k.of(part)?, inputs.v.of(part)?);
            let (d_keys, d_values) = (d_k.target(part)?, d_v.target(part)?);
            for (tile, [attended, totals]) in part.tiles.iter().zip(&mut saved) {
                let [g, a] = [asking(&gradient, tile)?, asking(&inputs.q, tile)?];
                let [b, c] = [cut(&keys, tile)?, cut(&values, tile)?];
                let mask = inputs.template.as_ref().map(|template| mask(template, tile)).transpose()?;
                let (d_a, d_b, d_c) = Torch::f_internal_scaled_dot_product_flash_attention_for_cpu_backward(
                    &g,
                    &a,
                    &b,
                    &c,
                    &attended,
                    &totals,
                    0.0,
                    false,
                    mask.as_ref(),
                    plan.scale,
                )?;
                put(&d_q, &d_a, tile)?;
                // Behind the chain's end stand rows of others, which others add to.
                let real = tile.real(part.keys());
                add(&d_keys, &d_b, tile, real)?;
                add(&d_values, &d_c, tile, real)?;
            }
            d_k.add(part, &d_keys)?;
            d_v.add(part, &d_values)?;
        }
        Ok(())
    })?;
    Ok([d_q, d_k.into_rows(kind)?, d_v.into_rows(kind)?])
}

/// What all trees read.
struct Inputs {
    q: Torch,
    k: Rows,
    v: Rows,
    template: Option<Torch>,
}

impl Inputs {
    fn new(plan: &Plan, [q, k, v]: [&Torch; 3]) -> Torched<Self> {
        let template = template(plan)?;
        // Keys beyond a chain's end are masked, or not there.
        let behind = if template.is_some() { TILE as i64 } else { 0 };
        Ok(Self { q: widened(q)?, k: Rows::new(k, behind)?, v: Rows::new(v, behind)?, template })
    }

    fn share(&self) -> Self {
        let (q, template) = (self.q.shallow_clone(), self.template.as_ref().map(Torch::shallow_clone));
        Self { q, k: self.k.share(), v: self.v.share(), template }
    }
}

/// Rows `[rows, kv_heads, dim]` in f32 with so many of zeros `behind` them that every tile is whole.
struct Rows {
    filled: Torch,
    rows: i64,
    behind: i64,
    dim: i64,
}

impl Rows {
    fn new(x: &Torch, behind: i64) -> Torched<Self> {
        let filled = match behind {
            0 => widened(x)?,
            behind => widened(x)?.f_constant_pad_nd([0, 0, 0, 0, 0, behind])?,
        };
        Ok(Self { filled, rows: x.size()[0], behind, dim: x.size()[2] })
    }

    fn share(&self) -> Self {
        Self { filled: self.filled.shallow_clone(), ..*self }
    }

    fn zeros(&self) -> Torched<Self> {
        Ok(Self { filled: self.filled.f_zeros_like()?, ..*self })
    }

    /// The chain's rows. Where they are neighbours no copy is made, and other rows may follow where zeros would: the
    /// mask hides either.
    fn of(&self, part: &Part) -> Torched {
        match part.chain.as_slice() {
            [only] => self.filled.f_narrow(0, only.start as i64, only.len() as i64 + self.behind),
            ranges => {
                let mut parts = Vec::with_capacity(ranges.len() + 1);
                for range in ranges {
                    parts.push(self.filled.f_narrow(0, range.start as i64, range.len() as i64)?);
                }
                parts.push(self.filled.f_narrow(0, self.rows, self.behind)?);
                Torch::f_cat(&parts, 0)
            }
        }
    }

    /// Where the chain's gradient is added up: in place, or beside it for [`Rows::add`].
    fn target(&self, part: &Part) -> Torched {
        match part.chain.len() {
            1 => self.of(part),
            _ => self.of(part)?.f_zeros_like(),
        }
    }

    fn add(&self, part: &Part, target: &Torch) -> Torched<()> {
        if part.chain.len() == 1 {
            return Ok(());
        }
        let mut start = 0;
        for range in &part.chain {
            let length = range.len() as i64;
            let mut place = self.filled.f_narrow(0, range.start as i64, length)?;
            let _ = place.f_add_(&target.f_narrow(0, start, length)?)?;
            start += length;
        }
        Ok(())
    }

    fn into_rows(self, kind: Kind) -> Torched {
        self.filled.f_narrow(0, 0, self.rows)?.f_narrow(2, 0, self.dim)?.f_to_kind(kind)
    }
}

/// In f32, a head's elements filled up to a multiple of [`STEP`]: libtorch's products have other paths for others.
fn widened(x: &Torch) -> Torched {
    match x.size()[2] % STEP as i64 {
        0 => x.f_to_kind(Kind::Float),
        rest => x.f_to_kind(Kind::Float)?.f_constant_pad_nd([0, STEP as i64 - rest]),
    }
}

fn template(plan: &Plan) -> Torched<Option<Torch>> {
    let keys = plan.most_keys() as i64;
    plan.template().map(|mask| Torch::f_from_slice(&mask)?.f_view([-1, keys])).transpose()
}

/// The mask of a tile, `[1, 1, rows, keys]`.
fn mask(template: &Torch, tile: &Tile) -> Torched {
    let (rows, keys) = (tile.places.len() as i64, tile.keys.len() as i64);
    let columns = template.f_narrow(1, template.size()[1] - keys, keys)?;
    let neighbours = tile.fill() == 0 || tile.places[0] + rows <= (TILE + STEP) as i64;
    let consecutive = tile.places[..tile.asking.len()].windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let chosen = match neighbours && consecutive {
        true => columns.f_narrow(0, tile.places[0], rows)?,
        false => columns.f_index_select(0, &Torch::f_from_slice(&tile.places)?)?,
    };
    chosen.f_unsqueeze(0)?.f_unsqueeze(0)
}

/// A tile's rows of q, filled up: `[1, heads, rows, dim]`.
fn asking(x: &Torch, tile: &Tile) -> Torched {
    let rows = x.f_narrow(0, tile.asking.start as i64, tile.asking.len() as i64)?;
    let filled = match tile.fill() as i64 {
        0 => rows,
        fill => rows.f_constant_pad_nd([0, 0, 0, 0, 0, fill])?,
    };
    filled.f_transpose(0, 1)?.f_unsqueeze(0)
}

/// A tile's keys of its chain: `[1, kv_heads, keys, dim]`.
fn cut(rows: &Torch, tile: &Tile) -> Torched {
    rows.f_narrow(0, tile.keys.start as i64, tile.keys.len() as i64)?.f_transpose(0, 1)?.f_unsqueeze(0)
}

/// Adds a tile's gradient `[1, kv_heads, keys, dim]` to its first `real` keys of the chain.
fn add(target: &Torch, gradient: &Torch, tile: &Tile, real: usize) -> Torched<()> {
    let mut place = target.f_narrow(0, tile.keys.start as i64, real as i64)?;
    let _ = place.f_add_(&gradient.f_squeeze_dim(0)?.f_transpose(0, 1)?.f_narrow(0, 0, real as i64)?)?;
    Ok(())
}

/// Writes a tile's result `[1, heads, rows, dim]` to its rows.
fn put(out: &Torch, result: &Torch, tile: &Tile) -> Torched<()> {
    let rows = tile.asking.len() as i64;
    let mut place = out.f_narrow(0, tile.asking.start as i64, rows)?;
    let result = result.f_squeeze_dim(0)?.f_transpose(0, 1)?.f_narrow(0, 0, rows)?;
    place.f_copy_(&result.f_narrow(2, 0, out.size()[2])?)
}
