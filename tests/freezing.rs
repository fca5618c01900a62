//! Trained and frozen parameters: gradients and moments, and the copies that follow an update.

use anyhow::{Result, ensure};
use pcrm_core::optim::{AdamW, AdamWConfig};
use pcrm_core::{Backend, DType, Error, Gradients, HostTensor, Packed, Params};

use crate::planted;
use crate::subject::every_backend;

/// Protects: an optimiser updates the weights that `detached` shares and not those that `snapshot` copied.
#[test]
fn a_snapshot_stays_and_a_detached_model_follows() -> Result<()> {
    every_backend(|backend| {
        let model = planted::model(backend, 2)?.trainable();
        let (shared, copy) = (model.detached(), model.snapshot(DType::F32)?);
        let mut packed = Packed::default();
        packed.push(&[5, 6, 7, 8, 9], None)?;
        let score = |model: &pcrm_core::model::RewardModel| -> Result<f32> {
            Ok(model.scores(&packed, &[4])?.read_scalar()?)
        };
        let before = score(&model)?;
        ensure!(score(&shared)? == before && score(&copy)? == before);
        let gradients = backend.backward(&model.scores(&packed, &[4])?.sum_all()?, &model.trained())?;
        AdamW::new(AdamWConfig::default(), &model.trained())?.step(&gradients, 0.01, 1.0)?;
        let after = score(&model)?;
        ensure!(after != before, "the step changed no weight");
        ensure!(score(&shared)? == after, "the detached model did not follow the update");
        ensure!(score(&copy)? == before, "the snapshot changed with the original");
        ensure!(copy.trained().iter().count() == 0, "the snapshot has trained parameters");
        Ok(())
    })
}

/// Protects: an optimiser refuses missing and unexpected gradients and changes nothing.
#[test]
fn an_optimiser_wants_exactly_its_gradients() -> Result<()> {
    every_backend(|backend| {
        let vector = |value: f32| backend.upload(&HostTensor::vector(vec![value; 3]), DType::F32);
        let mut params = Params::default();
        params.insert("a", vector(1.0)?);
        params.insert("b", vector(2.0)?);
        params.insert_frozen("frozen", vector(3.0)?);
        let mut optimiser = AdamW::new(AdamWConfig::default(), &params)?;
        ensure!(optimiser.state()?.keys().eq(["mean.a", "mean.b", "variance.a", "variance.b"]));
        let gradients = |names: &[&str]| -> Result<Gradients> {
            let mut gradients = Gradients::default();
            for name in names {
                gradients.insert(*name, vector(1.0)?);
            }
            Ok(gradients)
        };
        let missing = optimiser.step(&gradients(&["b"])?, 0.1, 1.0);
        ensure!(matches!(missing, Err(Error::MissingGradient { names }) if names == ["a"]));
        let unknown = optimiser.step(&gradients(&["a", "b", "frozen"])?, 0.1, 1.0);
        ensure!(unknown.is_err_and(|error| error.to_string().starts_with("frozen: has a gradient")));
        ensure!(params.get("b")?.read()?.into_f32() == [2.0; 3] && optimiser.steps() == 0);
        optimiser.step(&gradients(&["a", "b"])?, 0.1, 1.0)?;
        ensure!(params.get("b")?.read()?.into_f32() != [2.0; 3]);
        ensure!(params.get("frozen")?.read()?.into_f32() == [3.0; 3]);
        let none = AdamW::new(AdamWConfig::default(), &params.training(|_| false));
        ensure!(none.is_err_and(|error| error.to_string().contains("no parameter to train")));
        Ok(())
    })
}

/// Protects: a frozen parameter gets no gradient and needs none; a trained parameter needs one.
#[test]
fn gradients_are_those_of_trained_parameters() -> Result<()> {
    every_backend(|backend| {
        let all = planted::model(backend, 1)?;
        let params = all.params().training(|name| name.contains("mlp")).variables();
        let model = all.decoder().with_params(params);
        let mut packed = Packed::default();
        packed.push(&[5, 6, 7], None)?;
        let loss = model.forward(&packed, pcrm_core::model::Rows::All)?.sum_all()?;
        let gradients = backend.backward(&loss, model.params())?;
        ensure!(gradients.iter().count() == 3 && gradients.iter().all(|(name, _)| name.contains("mlp")));
        Ok(())
    })
}
