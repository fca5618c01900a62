//! Every differentiable primitive, on operands that avoid corners.

use anyhow::Result;
use pcrm_core::tensor::{Binary, Reduce, Unary};
use pcrm_core::{HostTensor, Tensor};

use super::{Case, ids};
use crate::support::random;

const TOLERANCE: f32 = 2e-6; // a few units in the last place

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

const BINARY: [Binary; 6] =
    [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Maximum, Binary::Minimum];

fn case(
    name: impl Into<String>,
    inputs: impl Into<Vec<HostTensor>>,
    operation: impl Fn(&[Tensor]) -> pcrm_core::Result<Tensor> + 'static,
) -> Case {
    Case::new(name, inputs, TOLERANCE, move |_, x| operation(x))
}

pub fn all() -> Result<Vec<Case>> {
    Ok([unary()?, binary()?, reductions()?, shapes()?, picks()?, products()?].into_iter().flatten().collect())
}

fn unary() -> Result<Vec<Case>> {
    let case = |op: Unary| {
        let positive = matches!(op, Unary::Log | Unary::Sqrt);
        let x = random(&[3, 4], 1)?.into_f32();
        let x = x.iter().map(|x| if positive { x.abs() + 0.5 } else { 2.0 * x }).collect();
        Ok(case(format!("{op:?}"), [HostTensor::f32([3, 4], x)?], move |x| x[0].unary(op)))
    };
    UNARY.into_iter().map(case).collect()
}

fn binary() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for op in BINARY {
        for (left, right) in [
            (&[3, 4][..], &[3, 4][..]),
            (&[3, 4], &[1, 4]),
            (&[3, 4], &[3, 1]),
            (&[3, 4], &[4]),
            (&[3, 4], &[]),
            (&[3, 1], &[1, 4]),
            (&[4], &[2, 3, 4]),
        ] {
            let apart = random(right, 3)?.into_f32().iter().map(|x| x.signum() + x * 0.5).collect();
            let inputs = [random(left, 2)?, HostTensor::f32(right, apart)?];
            cases.push(case(format!("{op:?} of {left:?} and {right:?}"), inputs, move |x| {
                x[0].binary(op, &x[1])
            }));
        }
    }
    Ok(cases)
}

fn reductions() -> Result<Vec<Case>> {
    let x = || Ok::<_, anyhow::Error>([random(&[2, 3, 4], 4)?]);
    // All elements are farther apart than the step of the finite differences.
    let apart = || HostTensor::f32([2, 3, 4], (0..24).map(|at| (at * 7 % 24) as f32 * 0.1).collect());
    let mut cases = vec![case("affine", x()?, |x| x[0].affine(-1.5, 0.25))];
    for dim in 0..3 {
        cases.push(case(format!("sum of {dim}"), x()?, move |x| x[0].reduce(Reduce::Sum, dim)));
        cases.push(case(format!("max of {dim}"), [apart()?], move |x| x[0].reduce(Reduce::Max, dim)));
        cases.push(case(format!("mean of {dim}"), x()?, move |x| x[0].mean(dim)));
        cases.push(case(format!("softmax of {dim}"), x()?, move |x| x[0].softmax(dim)));
        cases.push(case(format!("log_sum_exp of {dim}"), x()?, move |x| x[0].log_sum_exp(dim)));
    }
    cases.push(case("sum of a dimension of one", [random(&[3, 1], 5)?], |x| x[0].reduce(Reduce::Sum, 1)));
    Ok(cases)
}

fn shapes() -> Result<Vec<Case>> {
    let x = || Ok::<_, anyhow::Error>([random(&[2, 3, 4], 4)?]);
    let mut cases = vec![
        case("reshape, transpose", x()?, |x| x[0].reshape([6, 4])?.transpose()),
        case("permute", x()?, |x| x[0].permute([2, 0, 1])),
        case("reshape of a permuted", x()?, |x| x[0].permute([1, 2, 0])?.reshape([4, 6])),
        case("expand", [random(&[3, 1], 5)?], |x| x[0].expand([2, 3, 4])),
        case("expand a scalar", [random(&[], 5)?], |x| x[0].expand([2, 3])),
    ];
    for dim in 0..3 {
        cases.push(case(format!("concat along {dim}"), x()?, move |x| {
            Tensor::concat(&[&x[0], &x[0].neg()?, &x[0].narrow(dim, 1, 1)?], dim)
        }));
        cases.push(case(format!("narrow of {dim}"), x()?, move |x| x[0].narrow(dim, 1, 1)));
    }
    cases.push(case("narrow to the whole", x()?, |x| x[0].narrow(1, 0, 3)));
    Ok(cases)
}

fn picks() -> Result<Vec<Case>> {
    let x = || Ok::<_, anyhow::Error>([random(&[2, 3, 4], 4)?]);
    let flat = || Ok::<_, anyhow::Error>([random(&[6, 4], 4)?]);
    Ok(vec![
        case("select rows", x()?, |x| x[0].index_select(0, &ids(&x[0], &[1, 0, 1])?)),
        case("select within", x()?, |x| x[0].index_select(1, &ids(&x[0], &[2, 0, 2])?)),
        case("select the last", x()?, |x| x[0].index_select(2, &ids(&x[0], &[3])?)),
        case("gather of each row", flat()?, |x| {
            x[0].gather(1, &ids(&x[0], &[3, 0, 1, 1, 2, 3])?.reshape([6, 1])?)
        }),
        case("gather twice of each row", flat()?, |x| {
            x[0].gather(1, &ids(&x[0], &[3, 3, 0, 1, 1, 0, 1, 2, 2, 2, 3, 0])?.reshape([6, 2])?)
        }),
        case("gather of each column", flat()?, |x| {
            x[0].gather(0, &ids(&x[0], &[5, 0, 5, 2])?.reshape([1, 4])?)
        }),
    ])
}

fn products() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (left, right) in [
        (&[3, 4][..], &[4, 5][..]),
        (&[1, 4], &[4, 1]),
        (&[2, 3, 4], &[2, 4, 5]),
        (&[2, 2, 3, 4], &[2, 2, 4, 2]),
    ] {
        let inputs = [random(left, 6)?, random(right, 7)?];
        cases.push(case(format!("product of {left:?} and {right:?}"), inputs, |x| x[0].matmul(&x[1])));
    }
    let transposed = [random(&[2, 3, 4], 6)?, random(&[2, 5, 4], 7)?];
    cases.push(case("product with a transposed", transposed, |x| x[0].matmul(&x[1].transpose()?)));
    Ok(cases)
}
