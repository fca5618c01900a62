use pcrm_core::tree::Packed;

use super::*;

fn tree() -> pcrm_core::Result<SequenceTree> {
    let mut batch = Packed::default();
    let prompt = batch.push(&[0; 3], None)?;
    batch.push(&[0; 2], Some(prompt))?;
    batch.push(&[0; 4], Some(prompt))?;
    batch.push(&[0; 2], None)?;
    Ok(batch.tree)
}

fn how(mask: Mask, queries: Option<&[usize]>) -> Attention<'_> {
    Attention { scale: 1.0, cap: None, mask, queries }
}

/// Protects: each run has its own queries and its chain up to the last of them, in one vector.
#[test]
fn runs_end_with_their_last_query() -> pcrm_core::Result<()> {
    let causal = Mask::Causal { window: None };
    let all = Runs::new(&tree()?, &how(causal, None)).ok_or_else(too_many)?;
    assert_eq!(all.queries, [0, 3, 5, 9, 11]);
    assert_eq!(all.keys, [0, 3, 8, 15, 17]);
    assert_eq!(all.rows, [0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2, 5, 6, 7, 8, 9, 10]);
    // Rows 5, 6 and 8 of the third segment are two runs.
    let some = Runs::new(&tree()?, &how(causal, Some(&[2, 5, 6, 8]))).ok_or_else(too_many)?;
    assert_eq!(some.queries, [0, 1, 3, 4]);
    assert_eq!(some.keys, [0, 3, 8, 15]);
    assert_eq!(some.rows[3..8], [0, 1, 2, 5, 6]);
    let full = Runs::new(&tree()?, &how(Mask::Full, Some(&[9]))).ok_or_else(too_many)?;
    assert_eq!((full.queries, full.rows), (vec![0, 1], vec![9, 10]));
    Ok(())
}

fn too_many() -> pcrm_core::Error {
    pcrm_core::Error::invalid("runs", "too many keys")
}

/// Protects: gradients of repeated keys are summed, with and without kernels.
#[test]
fn a_plan_lists_every_place_of_a_row() -> Result<(), Box<dyn std::error::Error>> {
    let plan = PackedPlan::new(&tree()?, &how(Mask::Causal { window: None }, None), Device::Cpu)?;
    let plan = plan.ok_or_else(too_many)?;
    assert_eq!(plan.most, [4, 7]);
    let sums = plan.with(|_, gather| {
        let gather = gather.ok_or(tch::TchError::Torch("nothing is gathered".to_owned()))?;
        let counts = gather.offsets.f_diff(1, 0, None::<Torch>, None::<Torch>)?;
        assert_eq!(Vec::<i64>::try_from(&counts)?, [3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1]);
        let x = Torch::f_ones([17, 1, 2], tch::kind::FLOAT_CPU)?;
        gather.sums(&x, &Torch::f_zeros([11, 1, 2], tch::kind::FLOAT_CPU)?, None)
    })?;
    assert_eq!(Vec::<f32>::try_from(&sums.f_reshape([-1])?)?[..8], [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0]);
    let flat = PackedPlan::new(&SequenceTree::sequence(4)?, &how(Mask::Full, None), Device::Cpu)?;
    assert!(flat.ok_or_else(too_many)?.with(|_, gather| gather.is_none()));
    Ok(())
}
