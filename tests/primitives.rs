//! Each primitive of every backend: its gradient against finite differences, its corners as documented.

use anyhow::{Context, Result};
use pcrm_core::tensor::{Binary, Compare, Reduce, Unary};
use pcrm_core::{DType, HostTensor, Tensor};

use crate::support::{check_close, check_gradients, every_backend, random, value_and_gradients};

const UNARY: [Unary; 13] = [
    Unary::Neg,
    Unary::Exp,
    Unary::Log,
    Unary::Sqrt,
    Unary::Square,
    Unary::Abs,
    Unary::Tanh,
    Unary::Sigmoid,
    Unary::Softplus,
    Unary::Relu,
    Unary::Silu,
    Unary::Gelu,
    Unary::GeluTanh,
];

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
            check_close(&format!("{op:?}"), &x.unary(op)?.read()?.into_f32(), &values, 1e-6)?;
        }
        Ok(())
    })
}

#[test]
fn unary_gradients_are_slopes() -> Result<()> {
    every_backend(|backend| {
        for op in UNARY {
            let positive = matches!(op, Unary::Log | Unary::Sqrt);
            let x = random(&[3, 4], 1)?.into_f32();
            let x = x.iter().map(|x| if positive { x.abs() + 0.5 } else { 2.0 * x }).collect();
            check_gradients(backend, &[HostTensor::f32([3, 4], x)?], &|x| x[0].unary(op))
                .with_context(|| format!("{op:?}"))?;
        }
        Ok(())
    })
}

#[test]
fn binary_gradients_are_slopes_with_and_without_broadcasting() -> Result<()> {
    let ops = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Maximum, Binary::Minimum];
    every_backend(|backend| {
        for op in ops {
            for shape in [&[3, 4][..], &[1, 4], &[3, 1], &[4]] {
                let apart: Vec<f32> =
                    random(shape, 3)?.into_f32().iter().map(|x| x.signum() + x * 0.5).collect();
                let inputs = [random(&[3, 4], 2)?, HostTensor::f32(shape, apart)?];
                check_gradients(backend, &inputs, &|x| x[0].binary(op, &x[1]))
                    .with_context(|| format!("{op:?} with {shape:?}"))?;
            }
        }
        Ok(())
    })
}

#[test]
fn the_other_primitives_have_slopes_too() -> Result<()> {
    let index = |x: &Tensor, ids: &[u32], shape: &[usize]| -> pcrm_core::Result<Tensor> {
        x.constant(&HostTensor::indices(ids.to_vec()))?.reshape(shape)
    };
    every_backend(|backend| {
        let x = &[random(&[2, 3, 4], 4)?][..];
        // No two elements closer than the step of the differences.
        let apart = [HostTensor::f32([2, 3, 4], (0..24).map(|at| (at * 7 % 24) as f32 * 0.1).collect())?];
        check_gradients(backend, x, &|x| x[0].affine(-1.5, 0.25)).context("affine")?;
        for dim in 0..3 {
            check_gradients(backend, x, &|x| x[0].reduce(Reduce::Sum, dim)).context("sum")?;
            check_gradients(backend, &apart, &|x| x[0].reduce(Reduce::Max, dim)).context("max")?;
            check_gradients(backend, x, &|x| x[0].softmax(dim)).context("softmax")?;
            check_gradients(backend, x, &|x| x[0].log_sum_exp(dim)).context("log_sum_exp")?;
            check_gradients(backend, x, &|x| Tensor::concat(&[&x[0], &x[0].neg()?], dim))
                .context("concat")?;
        }
        check_gradients(backend, x, &|x| x[0].reshape([6, 4])?.transpose()).context("reshape, permute")?;
        check_gradients(backend, x, &|x| x[0].narrow(1, 1, 2)).context("narrow")?;
        check_gradients(backend, x, &|x| x[0].index_select(1, &index(&x[0], &[2, 0, 2], &[3])?))
            .context("select")?;
        let gather =
            |x: &[Tensor]| x[0].reshape([6, 4])?.gather(1, &index(&x[0], &[3, 0, 1, 1, 2, 3], &[6, 1])?);
        check_gradients(backend, x, &gather).context("gather")?;
        check_gradients(backend, &[random(&[3, 1], 5)?], &|x| x[0].expand([2, 3, 4])).context("expand")?;
        let pair = [random(&[2, 3, 4], 6)?, random(&[2, 4, 5], 7)?];
        check_gradients(backend, &pair, &|x| x[0].matmul(&x[1])).context("matmul")?;
        Ok(())
    })
}

#[test]
fn corners_are_the_same_everywhere() -> Result<()> {
    every_backend(|backend| {
        let zeros = [HostTensor::vector(vec![0.0, 0.0])];
        for op in [Unary::Relu, Unary::Abs] {
            let (_, gradients) = value_and_gradients(backend, &zeros, &|x| x[0].unary(op))?;
            check_close(&format!("{op:?}'(0)"), &gradients[0], &[0.0, 0.0], 0.0)?;
        }
        let equal = [HostTensor::scalar(2.0), HostTensor::scalar(2.0)];
        for op in [Binary::Maximum, Binary::Minimum] {
            let (_, gradients) = value_and_gradients(backend, &equal, &|x| x[0].binary(op, &x[1]))?;
            check_close("a tie gives both half", &gradients[0], &gradients[1], 0.0)?;
        }
        let ties = [HostTensor::vector(vec![1.0, 3.0, 3.0])];
        let (_, gradients) = value_and_gradients(backend, &ties, &|x| x[0].reduce(Reduce::Max, 0))?;
        check_close("ties of max share", &[gradients[0][1]], &[gradients[0][2]], 0.0)?;
        check_close("what is not the largest gets nothing", &[gradients[0][0]], &[0.0], 0.0)?;

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
            check_close(&format!("{op:?}"), &x.compare(op, &two)?.read()?.into_f32(), &mask, 0.0)?;
        }
        check_close("argmax", &x.reduce(Reduce::ArgMax, 0)?.read()?.into_f32(), &[2.0], 0.0)?;

        // −ln σ stays finite and exact where e⁻ˣ overflows, and an infinite bound costs nothing.
        let far = backend.upload(&HostTensor::vector(vec![-800.0, 0.0, 800.0, f32::INFINITY]), DType::F32)?;
        let expected = [-800.0, -std::f32::consts::LN_2, 0.0, 0.0];
        check_close("log_sigmoid", &far.log_sigmoid()?.read()?.into_f32(), &expected, 1e-7)
    })
}

#[test]
fn a_parameter_without_gradient_is_an_error() -> Result<()> {
    every_backend(|backend| {
        let used = backend.upload(&HostTensor::scalar(1.0), DType::F32)?.variable();
        let unused = backend.upload(&HostTensor::scalar(1.0), DType::F32)?.variable();
        let mut params = pcrm_core::Params::default();
        params.insert("used", used.clone());
        params.insert("unused", unused);
        let message = backend.backward(&used.square()?, &params).err().map(|error| error.to_string());
        anyhow::ensure!(message.as_deref() == Some("no gradient reached unused"), "{message:?}");
        Ok(())
    })
}

#[test]
fn assign_is_seen_by_every_handle() -> Result<()> {
    every_backend(|backend| {
        let x = backend.upload(&HostTensor::vector(vec![1.0, 2.0]), DType::F32)?;
        let (variable, frozen) = (x.variable(), x.detach());
        x.assign(&x.affine(10.0, 0.0)?)?;
        check_close("variable", &variable.read()?.into_f32(), &[10.0, 20.0], 0.0)?;
        check_close("frozen", &frozen.read()?.into_f32(), &[10.0, 20.0], 0.0)
    })
}
