//! The environment variables that launchers set for the processes of a run: torchrun (and `pcrm launch`),
//! SLURM's srun, and Open MPI's mpirun.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

/// The place of a process in its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// The number of this process, from 0.
    pub rank: usize,
    /// The number of processes.
    pub world: usize,
    /// The number of this process on its machine.
    pub local_rank: usize,
    /// The host and port of the store where the processes meet.
    pub store: (String, u16),
    /// True if the launcher serves the store; otherwise rank 0 serves it.
    pub agent_serves: bool,
    /// A name that is unique among the runs that share a store, and the number of restarts.
    pub run: (String, u64),
    /// The file for the error of a failed process, which the launcher reads.
    pub error_file: Option<PathBuf>,
}

/// The default port of the store, as in torch.
const PORT: u16 = 29500;

/// Reads the environment; returns `None` for a process that no launcher started, or for the only process.
///
/// # Errors
/// Fails if some of a launcher's variables are missing, or if values are out of range.
pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Option<Launched>> {
    let of = Variables { get: &get };
    let launched = if of.has("RANK") || of.has("WORLD_SIZE") {
        of.torch()?
    } else if of.has("SLURM_PROCID") && of.has("SLURM_STEP_NUM_TASKS") {
        of.slurm()?
    } else if of.has("OMPI_COMM_WORLD_RANK") {
        of.open_mpi()?
    } else {
        return Ok(None);
    };
    ensure!(
        launched.rank < launched.world,
        "the environment says rank {} of {} processes; expected a rank below {}",
        launched.rank,
        launched.world,
        launched.world
    );
    Ok(Some(launched))
}

struct Variables<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
}

impl Variables<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.is_empty())
    }

    fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.text(name) else { return Ok(None) };
        match value.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("{name}={value}: expected a whole number"),
        }
    }

    fn needed<T: FromStr>(&self, name: &str, beside: &str) -> Result<T> {
        let missing = || format!("{name} is not set, and {beside} is; a launcher such as torchrun sets both");
        self.number(name)?.with_context(missing)
    }

    fn torch(&self) -> Result<Launched> {
        let (rank, world) = (self.needed("RANK", "WORLD_SIZE")?, self.needed("WORLD_SIZE", "RANK")?);
        let local = "127.0.0.1".to_owned();
        let host = match self.text("MASTER_ADDR") {
            Some(host) => host,
            None if world == 1 => local,
            None => bail!("MASTER_ADDR is not set, and WORLD_SIZE is {world}; expected the host of rank 0"),
        };
        let agent = self.text("TORCHELASTIC_USE_AGENT_STORE");
        Ok(Launched {
            rank,
            world,
            local_rank: self.number("LOCAL_RANK")?.unwrap_or(rank),
            store: (host, self.number("MASTER_PORT")?.unwrap_or(PORT)),
            agent_serves: agent.is_some_and(|agent| agent.eq_ignore_ascii_case("true")),
            run: (
                self.text("TORCHELASTIC_RUN_ID").unwrap_or_default(),
                self.number("TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0),
            ),
            error_file: self.text("TORCHELASTIC_ERROR_FILE").map(PathBuf::from),
        })
    }

    fn slurm(&self) -> Result<Launched> {
        let rank = self.needed("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")?;
        let job: u64 = self.number("SLURM_JOB_ID")?.unwrap_or(0);
        let nodes = self.text("SLURM_STEP_NODELIST").or_else(|| self.text("SLURM_NODELIST"));
        let host = self.text("MASTER_ADDR").or_else(|| nodes.as_deref().map(first_node));
        let host =
            host.context("neither MASTER_ADDR nor SLURM_STEP_NODELIST is set; expected the host of rank 0")?;
        let step = self.text("SLURM_STEP_ID").unwrap_or_default();
        Ok(Launched {
            rank,
            world: self.needed("SLURM_STEP_NUM_TASKS", "SLURM_PROCID")?,
            local_rank: self.number("SLURM_LOCALID")?.unwrap_or(rank),
            // Jobs that share a node need different ports.
            store: (host, self.number("MASTER_PORT")?.unwrap_or(15000 + (job % 20000) as u16)),
            agent_serves: false,
            run: (format!("slurm-{job}-{step}"), self.number("SLURM_RESTART_COUNT")?.unwrap_or(0)),
            error_file: None,
        })
    }

    fn open_mpi(&self) -> Result<Launched> {
        let rank = self.needed("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")?;
        let world = self.needed("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")?;
        let is_local = self.number("OMPI_COMM_WORLD_LOCAL_SIZE")? == Some(world);
        let host = match self.text("MASTER_ADDR") {
            Some(host) => host,
            None if is_local => "127.0.0.1".to_owned(),
            None => bail!("MASTER_ADDR is not set; expected the host of rank 0 (mpirun -x MASTER_ADDR=..)"),
        };
        Ok(Launched {
            rank,
            world,
            local_rank: self.number("OMPI_COMM_WORLD_LOCAL_RANK")?.unwrap_or(rank),
            store: (host, self.number("MASTER_PORT")?.unwrap_or(PORT)),
            agent_serves: false,
            run: (self.text("PMIX_NAMESPACE").unwrap_or_default(), 0),
            error_file: None,
        })
    }
}

/// Returns the first host of a list in SLURM's notation: `gpu[03-07,12],cpu1` begins with `gpu03`.
fn first_node(list: &str) -> String {
    let Some((name, rest)) = list.split_once('[').filter(|(name, _)| !name.contains(',')) else {
        return list.split(',').next().unwrap_or(list).to_owned();
    };
    let number = rest.split([',', '-', ']']).next().unwrap_or_default();
    let after = rest.split_once(']').map_or("", |(_, after)| after.split(',').next().unwrap_or_default());
    format!("{name}{number}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(variables: &[(&str, &str)]) -> Result<Option<Launched>> {
        read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    /// Protects: the variables of torchrun, srun and mpirun are read correctly, and a process without a
    /// launcher is alone.
    #[test]
    fn launchers_are_understood() {
        assert_eq!(parsed(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]).unwrap(), None);
        let torchrun = [
            ("RANK", "3"),
            ("LOCAL_RANK", "1"),
            ("WORLD_SIZE", "4"),
            ("MASTER_ADDR", "node1"),
            ("MASTER_PORT", "2345"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_RUN_ID", "run"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
            ("TORCHELASTIC_ERROR_FILE", "/tmp/error.json"),
        ];
        let expected = Launched {
            rank: 3,
            world: 4,
            local_rank: 1,
            store: ("node1".into(), 2345),
            agent_serves: true,
            run: ("run".into(), 2),
            error_file: Some("/tmp/error.json".into()),
        };
        assert_eq!(parsed(&torchrun).unwrap(), Some(expected));
        let srun = [
            ("SLURM_PROCID", "5"),
            ("SLURM_STEP_NUM_TASKS", "16"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_JOB_ID", "120007"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_STEP_NODELIST", "gpu[03-07,12]"),
        ];
        let found = parsed(&srun).unwrap().unwrap();
        assert_eq!((found.rank, found.world, found.local_rank), (5, 16, 1));
        assert_eq!((found.store, found.run.0.as_str()), (("gpu03".to_owned(), 15007), "slurm-120007-0"));
        let mpirun = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ];
        let found = parsed(&mpirun).unwrap().unwrap();
        assert_eq!((found.rank, found.store), (1, ("127.0.0.1".to_owned(), 29500)));
    }

    /// Protects: an incomplete environment is refused, and the message names the variable.
    #[test]
    fn half_an_environment_is_refused() {
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[("WORLD_SIZE", "2")], "RANK is not set, and WORLD_SIZE is"),
            (&[("RANK", "0"), ("WORLD_SIZE", "2")], "MASTER_ADDR is not set"),
            (&[("RANK", "one"), ("WORLD_SIZE", "2")], "RANK=one: expected a whole number"),
            (&[("RANK", "2"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a")], "rank 2 of 2"),
            (&[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")], "MASTER_ADDR is not set"),
        ];
        for (variables, expected) in cases {
            let message = parsed(variables).unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?}, not {expected:?}");
        }
    }

    /// Protects: the first host of SLURM's lists is found.
    #[test]
    fn lists_of_nodes_have_a_first() {
        for (list, first) in [
            ("node7", "node7"),
            ("a1,a2", "a1"),
            ("gpu[003-005]", "gpu003"),
            ("gpu[3,7],cpu1", "gpu3"),
            ("a,b[1-2]", "a"),
            ("rack[1-2]-n", "rack1-n"),
        ] {
            assert_eq!(first_node(list), first);
        }
    }
}
