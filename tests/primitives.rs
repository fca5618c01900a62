//! Each primitive of every backend: its gradient against finite differences, and its corners.

use anyhow::{Context, Result, ensure};
use pcrm_core::tensor::{Binary, Compare, Reduce, Unary};
use pcrm_core::{Backend, DType, HostTensor, Params, Tensor};

use crate::cases::primitives;
use crate::subject::every_backend;
use crate::support::{check_gradients, value_and_gradients};

#[test]
fn unary_values_are_those_of_torch() -> Result<()> {
    // torch.float64: x = [-2, -0.5, 0.3, 1.7]
    let expected: [(Unary, [f32; 4]); 9] = [
        (Unary::Exp, [0.135_335_28, 0.606_530_66, 1.349_858_8, 5.473_947_4]),
        (Unary::Tanh, [-0.964_027_6, -0.462_117_16, 0.291_312_6, 0.935_409_07]),
        (Unary::Sigmoid, [0.119_202_92, 0.377_540_67, 0.574_442_5, 0.845_534_7]),
        (Unary::Softplus, [0.126_928_01, 0.474_077, 0.854_355_2, 1.867_786]),
        (Unary::Relu, [0.0, 0.0, 0.3, 1.7]),
        (Unary::Silu, [-0.238_405_84, -0.188_770_33, 0.172_332_75, 1.437_409]),
        (Unary::Gelu, [-0.045_500_264, -0.154_268_77, 0.185_373_43, 1.624_238_7]),
        (Unary::GeluTanh, [-0.045_402_306, -0.154_286, 0.185_370_92, 1.624_105_9]),
        (Unary::Square, [4.0, 0.25, 0.09, 2.89]),
    ];
    every_backend(|backend| {
        let x = backend.upload(&HostTensor::vector(vec![-2.0, -0.5, 0.3, 1.7]), DType::F32)?;
        for (op, values) in expected {
            backend.check_close(&format!("{op:?}"), &x.unary(op)?.read()?.into_f32(), &values, 1e-6)?;
        }
        Ok(())
    })
}

/// Protects: the gradient of every primitive for every operand matches finite differences.
#[test]
fn gradients_are_slopes() -> Result<()> {
    let cases = primitives::all()?;
    every_backend(|backend| {
        cases.iter().try_for_each(|case| {
            check_gradients(backend, &case.inputs, &|x| case.apply(x)).with_context(|| case.name.clone())
        })
    })
}

#[test]
fn corners_are_the_same_everywhere() -> Result<()> {
    every_backend(|backend| {
        let zeros = [HostTensor::vector(vec![0.0, 0.0])];
        for op in [Unary::Relu, Unary::Abs] {
            let (_, gradients) = value_and_gradients(backend, &zeros, &|x| x[0].unary(op))?;
            backend.check_close(&format!("{op:?}'(0)"), &gradients[0], &[0.0, 0.0], 0.0)?;
        }
        let equal = [HostTensor::scalar(2.0), HostTensor::scalar(2.0)];
        for op in [Binary::Maximum, Binary::Minimum] {
            let (_, gradients) = value_and_gradients(backend, &equal, &|x| x[0].binary(op, &x[1]))?;
            backend.check_close("both operands of a tie get half", &gradients[0], &gradients[1], 0.0)?;
        }
        let ties = [HostTensor::vector(vec![1.0, 3.0, 3.0])];
        let (_, gradients) = value_and_gradients(backend, &ties, &|x| x[0].reduce(Reduce::Max, 0))?;
        backend.check_close("ties of max get equal shares", &[gradients[0][1]], &[gradients[0][2]], 0.0)?;
        backend.check_close("an element below the maximum gets nothing", &[gradients[0][0]], &[0.0], 0.0)?;

        let x = backend.upload(&HostTensor::vector(vec![1.0, 2.0, 3.0]), DType::F32)?;
        let two = backend.upload(&HostTensor::scalar(2.0), DType::F32)?;
        let masks: [(Compare, [f32; 3]); 5] = [
            (Compare::Eq, [0.0, 1.0, 0.0]),
            (Compare::Lt, [1.0, 0.0, 0.0]),
            (Compare::Le, [1.0, 1.0, 0.0]),
            (Compare::Gt, [0.0, 0.0, 1.0]),
            (Compare::Ge, [0.0, 1.0, 1.0]),
        ];
        for (op, mask) in masks {
            backend.check_close(&format!("{op:?}"), &x.compare(op, &two)?.read()?.into_f32(), &mask, 0.0)?;
        }
        backend.check_close("argmax", &x.reduce(Reduce::ArgMax, 0)?.read()?.into_f32(), &[2.0], 0.0)?;

        // −ln σ stays finite and exact where e⁻ˣ overflows, and an infinite bound adds no loss.
        let far = backend.upload(&HostTensor::vector(vec![-800.0, 0.0, 800.0, f32::INFINITY]), DType::F32)?;
        let expected = [-800.0, -std::f32::consts::LN_2, 0.0, 0.0];
        backend.check_close("log_sigmoid", &far.log_sigmoid()?.read()?.into_f32(), &expected, 1e-7)
    })
}

#[test]
fn a_parameter_without_gradient_is_an_error() -> Result<()> {
    every_backend(|backend| {
        let used = backend.upload(&HostTensor::scalar(1.0), DType::F32)?.variable();
        let unused = backend.upload(&HostTensor::scalar(1.0), DType::F32)?.variable();
        let mut params = Params::default();
        params.insert("used", used.clone());
        params.insert("unused", unused);
        let message = backend.backward(&used.square()?, &params).err().map(|error| error.to_string());
        ensure!(message.as_deref() == Some("no gradient reached unused"), "{message:?}");
        Ok(())
    })
}

/// Protects: a frozen parameter gets no gradient and needs none; a trained parameter without history is an
/// error.
#[test]
fn frozen_parameters_get_no_gradient_and_are_not_missing() -> Result<()> {
    every_backend(|backend| {
        let frozen = backend.upload(&HostTensor::scalar(3.0), DType::F32)?;
        let trained = backend.upload(&HostTensor::scalar(2.0), DType::F32)?.variable();
        ensure!(trained.has_history() && !frozen.has_history(), "expected a history for the variable only");
        let mut params = Params::default();
        params.insert_frozen("frozen", frozen.clone());
        params.insert("trained", trained.clone());
        let gradients = backend.backward(&trained.mul(&frozen)?, &params)?;
        let names: Vec<&str> = gradients.iter().map(|(name, _)| name).collect();
        ensure!(names == ["trained"], "{names:?}");
        ensure!(gradients.get("trained")?.read_scalar()? == 3.0, "d 3x");
        params.insert("frozen", frozen.clone());
        let message = backend.backward(&trained.mul(&frozen)?, &params).err().map(|e| e.to_string());
        ensure!(message.as_deref() == Some("no gradient reached frozen"), "{message:?}");
        Ok(())
    })
}

/// Protects: backward can start from gradients of several outputs at once, as if from Σ dᵢ·xᵢ without
/// computing it.
#[test]
fn backward_goes_from_given_gradients_of_several_outputs() -> Result<()> {
    every_backend(|backend| {
        let upload = |values: &[f32]| backend.upload(&HostTensor::vector(values.to_vec()), DType::F32);
        let (d_first, d_second) = (upload(&[0.5, -2.0, 0.0])?, upload(&[1.0, 3.0, -0.25])?);
        let outputs = || -> Result<(Params, Tensor, Tensor)> {
            let mut params = Params::default();
            params.insert("x", upload(&[0.3, -1.5, 2.0])?.variable());
            let x = params.get("x")?;
            let shared = x.exp()?;
            Ok((params.clone(), shared.square()?, shared.add(x)?))
        };
        let (params, first, second) = outputs()?;
        let gradients = backend.backward_from(&[(&first, &d_first), (&second, &d_second)], &params)?;
        let got = gradients.get("x")?.read()?.into_f32();
        let again = backend.backward_from(&[(&first, &d_first)], &params).err().map(|e| e.to_string());
        ensure!(
            again.is_some_and(|message| message.contains("twice")),
            "a second backward pass over the same history is not refused"
        );

        let (params, first, second) = outputs()?;
        let surrogate = first.mul(&d_first)?.add(&second.mul(&d_second)?)?.sum_all()?;
        let want = backend.backward(&surrogate, &params)?.get("x")?.read()?.into_f32();
        backend.check_close("Σ d·x", &got, &want, 1e-6)?;

        let (_, first, _) = outputs()?;
        let other = backend.upload(&HostTensor::scalar(1.0), DType::F32)?;
        let refused = Tensor::pull(&[(&first, &other)], &[]).err().map(|e| e.to_string());
        ensure!(refused.as_ref().is_some_and(|m| m.contains("the shape of its output")), "{refused:?}");
        let none = Tensor::pull(&[(&first, &d_first)], &[&d_first])?;
        ensure!(matches!(none.as_slice(), [None]), "a constant got a gradient");
        Ok(())
    })
}

/// Protects: an operation written outside the backends is on the tape like any other: it learns which
/// operands need gradients, its gradients propagate, and gradients of the wrong number or shape are refused.
#[test]
fn recorded_operations_have_the_gradients_that_they_say() -> Result<()> {
    type Answer = fn(&Tensor, &Tensor) -> pcrm_core::Result<Vec<Option<Tensor>>>;
    every_backend(|backend| {
        let host = HostTensor::vector(vec![1.0, -2.0, 3.0]);
        let (leaf, frozen) =
            (backend.upload(&host, DType::F32)?.variable(), backend.upload(&host, DType::F32)?);
        let gradient = |answer: Answer| -> Result<Vec<f32>> {
            let x = leaf.affine(2.0, 0.0)?; // 2, −4, 6
            let (inside, constant) = (x.detach(), frozen.clone());
            let value = x.detach().mul(&frozen)?; // x·c
            let recorded = value.record(&[&x, &frozen], move |gradient, wanted| {
                assert_eq!(wanted, [true, false]);
                assert!(!gradient.has_history());
                answer(&gradient.mul(&constant)?, &inside)
            })?;
            ensure!(recorded.has_history(), "the result is not on the tape");
            let ones = recorded.constant(&HostTensor::vector(vec![1.0; 3]))?;
            match Tensor::pull(&[(&recorded.square()?, &ones)], &[&leaf])?.as_slice() {
                [Some(gradient)] => Ok(gradient.read()?.into_f32()),
                _ => anyhow::bail!("no gradient"),
            }
        };
        // d (2l·c)² / dl = 8·l·c²
        backend.check_close(
            "d",
            &gradient(|d_x, _| Ok(vec![Some(d_x.clone()), None]))?,
            &[8.0, -64.0, 216.0],
            1e-6,
        )?;
        let answers: [(Answer, &str); 2] = [
            (|d_x, _| Ok(vec![Some(d_x.clone())]), "1 gradients of 2 operands"),
            (|d_x, _| Ok(vec![Some(d_x.narrow(0, 0, 2)?), None]), "the shape of its operand"),
        ];
        for (answer, message) in answers {
            let refused = gradient(answer).err().map(|e| e.to_string());
            ensure!(refused.as_ref().is_some_and(|refused| refused.contains(message)), "{refused:?}");
        }
        let off_tape = frozen.record(&[&frozen], |_, _| unreachable!("no gradient is needed"))?;
        ensure!(!off_tape.has_history(), "a result of constants has a history");
        Ok(())
    })
}

#[test]
fn assign_is_seen_by_every_handle() -> Result<()> {
    every_backend(|backend| {
        let x = backend.upload(&HostTensor::vector(vec![1.0, 2.0]), DType::F32)?;
        let (variable, frozen) = (x.variable(), x.detach());
        x.assign(&x.affine(10.0, 0.0)?)?;
        backend.check_close("variable", &variable.read()?.into_f32(), &[10.0, 20.0], 0.0)?;
        backend.check_close("frozen", &frozen.read()?.into_f32(), &[10.0, 20.0], 0.0)
    })
}
