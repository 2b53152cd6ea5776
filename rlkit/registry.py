"""Names: literal tables of agents and of ways to pretrain encoders, read without importing any, and the presets."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rlkit.errors import UnknownNameError, UnsupportedTaskError, UsageError, did_you_mean
from rlkit.types import TunesEncoder

if TYPE_CHECKING:
    from rlkit.perception.detection.detector import DetectorClass
    from rlkit.perception.ssl.objective import Method


@dataclass(frozen=True)
class Entry:
    """One registered name: where its class is, and what it is in a line."""

    target: str
    summary: str

    def load(self) -> Any:
        """The class."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


AGENTS: dict[str, Entry] = {
    "random": Entry("rlkit.agents.random:RandomAgent", "uniform random actions, the baseline"),
    "epsilon-greedy-bandit": Entry(
        "rlkit.agents.bandits:EpsilonGreedyBandit", "k-armed bandit, ε-greedy; optimistic with a high initial value"
    ),
    "ucb-bandit": Entry("rlkit.agents.bandits:UCBBandit", "k-armed bandit, upper confidence bounds"),
    "gradient-bandit": Entry("rlkit.agents.bandits:GradientBandit", "k-armed bandit, softmax over preferences"),
    "policy-evaluation": Entry(
        "rlkit.agents.dynamic_programming:PolicyEvaluation", "values of a given policy, from a known model"
    ),
    "policy-iteration": Entry(
        "rlkit.agents.dynamic_programming:PolicyIteration", "evaluate and improve, from a known model"
    ),
    "truncated-policy-iteration": Entry(
        "rlkit.agents.dynamic_programming:TruncatedPolicyIteration", "policy iteration with a few sweeps of evaluation"
    ),
    "value-iteration": Entry("rlkit.agents.dynamic_programming:ValueIteration", "optimal values, from a known model"),
    "asynchronous-value-iteration": Entry(
        "rlkit.agents.dynamic_programming:AsynchronousValueIteration", "value iteration one state at a time"
    ),
    "prioritized-sweeping": Entry(
        "rlkit.agents.dynamic_programming:PrioritizedSweeping", "value iteration where values change most"
    ),
    "mc-prediction": Entry(
        "rlkit.agents.monte_carlo:MCPrediction", "values of a given policy as mean returns, first or every visit"
    ),
    "mc-off-policy-prediction": Entry(
        "rlkit.agents.monte_carlo:MCOffPolicyPrediction", "values of one policy from episodes of another"
    ),
    "mc-basic": Entry("rlkit.agents.monte_carlo:MCBasic", "policy iteration from episodes of a fixed length"),
    "mc-exploring-starts": Entry(
        "rlkit.agents.monte_carlo:MCExploringStarts", "Monte Carlo control with exploring starts"
    ),
    "monte-carlo": Entry("rlkit.agents.monte_carlo:MonteCarlo", "Monte Carlo control, ε-greedy"),
    "mc-off-policy": Entry("rlkit.agents.monte_carlo:MCOffPolicy", "Monte Carlo control by importance sampling"),
    "td-0": Entry("rlkit.agents.td:TD0", "TD(0) prediction of a given policy"),
    "n-step-td": Entry("rlkit.agents.td:NStepTD", "n-step TD prediction"),
    "td-lambda": Entry("rlkit.agents.td:TDLambda", "TD(λ) prediction with eligibility traces"),
    "sarsa": Entry("rlkit.agents.sarsa:Sarsa", "on-policy control by temporal differences"),
    "expected-sarsa": Entry("rlkit.agents.sarsa:ExpectedSarsa", "Sarsa with the mean over next actions"),
    "n-step-sarsa": Entry("rlkit.agents.sarsa:NStepSarsa", "Sarsa with n-step returns"),
    "sarsa-lambda": Entry("rlkit.agents.sarsa:SarsaLambda", "Sarsa with eligibility traces"),
    "tree-backup": Entry("rlkit.agents.sarsa:TreeBackup", "n-step off-policy control without importance sampling"),
    "q-sigma": Entry("rlkit.agents.sarsa:QSigma", "between n-step Sarsa and the tree backup"),
    "q-learning": Entry("rlkit.agents.q_learning:QLearning", "off-policy control by temporal differences"),
    "double-q-learning": Entry("rlkit.agents.q_learning:DoubleQLearning", "Q-learning without maximisation bias"),
    "watkins-q-lambda": Entry("rlkit.agents.q_learning:WatkinsQLambda", "Q-learning with eligibility traces"),
    "dyna-q": Entry("rlkit.agents.dyna:DynaQ", "Q-learning with planning from a learned model"),
    "dyna-q-plus": Entry("rlkit.agents.dyna:DynaQPlus", "Dyna-Q for environments that change"),
    "tabular-reinforce": Entry(
        "rlkit.agents.tabular_reinforce:TabularReinforce", "policy gradient with a table of preferences"
    ),
    "gradient-mc": Entry(
        "rlkit.agents.linear_prediction:GradientMC", "prediction with features, from returns of whole episodes"
    ),
    "linear-td": Entry("rlkit.agents.linear_prediction:LinearTD", "semi-gradient TD(0) prediction with features"),
    "linear-n-step-td": Entry("rlkit.agents.linear_prediction:LinearNStepTD", "n-step TD prediction with features"),
    "linear-td-lambda": Entry(
        "rlkit.agents.linear_prediction:LinearTDLambda", "TD(λ) prediction with features, also true online"
    ),
    "lstd": Entry("rlkit.agents.least_squares:LSTD", "TD(λ)'s fixed point by least squares"),
    "tdc": Entry("rlkit.agents.linear_prediction:LinearTDC", "TD with gradient correction, safe off-policy"),
    "gtd2": Entry("rlkit.agents.linear_prediction:LinearGTD2", "gradient TD, safe off-policy"),
    "emphatic-td": Entry("rlkit.agents.linear_prediction:EmphaticTD", "TD weighted by emphasis, safe off-policy"),
    "linear-sarsa": Entry("rlkit.agents.linear_control:LinearSarsa", "semi-gradient Sarsa with features"),
    "linear-expected-sarsa": Entry(
        "rlkit.agents.linear_control:LinearExpectedSarsa", "semi-gradient expected Sarsa with features"
    ),
    "linear-n-step-sarsa": Entry(
        "rlkit.agents.linear_control:LinearNStepSarsa", "semi-gradient n-step Sarsa with features"
    ),
    "linear-sarsa-lambda": Entry(
        "rlkit.agents.linear_control:LinearSarsaLambda", "Sarsa(λ) with features, also true online"
    ),
    "linear-q-learning": Entry("rlkit.agents.linear_control:LinearQLearning", "Q-learning with features"),
    "differential-sarsa": Entry(
        "rlkit.agents.linear_control:DifferentialSarsa", "Sarsa with features for the average reward of an endless task"
    ),
    "lspi": Entry("rlkit.agents.least_squares:LSPI", "policy iteration by least squares, from samples"),
    "network-mc": Entry("rlkit.agents.small_network:NetworkMC", "Monte Carlo prediction with a small network"),
    "network-sarsa": Entry("rlkit.agents.small_network:NetworkSarsa", "semi-gradient Sarsa with a small network"),
    "dqn": Entry("rlkit.agents.dqn:DQN", "deep Q-network; double, dueling, prioritised, noisy, n-step by switches"),
    "c51": Entry("rlkit.agents.rainbow:C51", "DQN with a categorical distribution of returns"),
    "qr-dqn": Entry("rlkit.agents.rainbow:QRDQN", "DQN with quantiles of returns"),
    "iqn": Entry("rlkit.agents.rainbow:IQN", "DQN with implicit quantiles"),
    "munchausen-dqn": Entry("rlkit.agents.rainbow:MunchausenDQN", "DQN with the log-policy in its rewards"),
    "rainbow": Entry("rlkit.agents.rainbow:Rainbow", "DQN with double, dueling, prioritised, 3-step, noisy and C51"),
    "ddpg": Entry("rlkit.agents.ddpg:DDPG", "deep deterministic policy gradient, continuous actions"),
    "ppo": Entry("rlkit.agents.ppo:PPO", "proximal policy optimisation, discrete or continuous actions"),
    "a2c": Entry("rlkit.agents.a2c:A2C", "advantage actor-critic, discrete or continuous actions"),
    "reinforce": Entry("rlkit.agents.reinforce:REINFORCE", "policy gradient from whole episodes, with a baseline"),
    "td3": Entry("rlkit.agents.td3:TD3", "DDPG with twin critics, smoothed targets and delayed policy updates"),
    "sac": Entry("rlkit.agents.sac:SAC", "soft actor-critic, continuous actions, learned temperature"),
    "tqc": Entry("rlkit.agents.tqc:TQC", "SAC with critics of quantiles, the largest of which are dropped"),
    "crossq": Entry("rlkit.agents.crossq:CrossQ", "SAC with batch normalisation and without target networks"),
    "drqv2": Entry("rlkit.agents.drqv2:DrQv2", "DDPG from pixels with randomly shifted pictures"),
    "decision-transformer": Entry(
        "rlkit.agents.decision_transformer:DecisionTransformerAgent",
        "a sequence model that is asked for a return, from a dataset of episodes",
    ),
    "sb3/a2c": Entry("rlkit.agents.sb3:Sb3A2C", "stable-baselines3's A2C"),
    "sb3/ddpg": Entry("rlkit.agents.sb3:Sb3DDPG", "stable-baselines3's DDPG"),
    "sb3/dqn": Entry("rlkit.agents.sb3:Sb3DQN", "stable-baselines3's DQN"),
    "sb3/ppo": Entry("rlkit.agents.sb3:Sb3PPO", "stable-baselines3's PPO"),
    "sb3/sac": Entry("rlkit.agents.sb3:Sb3SAC", "stable-baselines3's SAC"),
    "sb3/td3": Entry("rlkit.agents.sb3:Sb3TD3", "stable-baselines3's TD3"),
}


_SSL = "rlkit.perception.ssl"
METHODS: dict[str, Entry] = {
    "margin": Entry(f"{_SSL}.margin:Margin", "pairs that belong together, and others a margin apart"),
    "instdisc": Entry(
        f"{_SSL}.instance_discrimination:InstanceDiscrimination", "every picture a class of its own, with a memory bank"
    ),
    "cmc": Entry(f"{_SSL}.cmc:CMC", "colours and brightness, or early and late frames, with memory banks"),
    "moco-v1": Entry(f"{_SSL}.moco:MoCo", "a view among a queue of keys of a slow encoder"),
    "moco-v2": Entry(f"{_SSL}.moco:MoCoV2", "moco-v1 with a deeper head, softer logits and a cosine schedule"),
    "moco-v3": Entry(f"{_SSL}.moco:MoCoV3", "two views among those of a batch, predicted for a slow encoder"),
    "simclr": Entry(f"{_SSL}.simclr:SimCLR", "two views of a picture among those of a batch"),
    "cpc": Entry(f"{_SSL}.cpc:CPC", "features of the next steps among those of a batch, from a memory"),
    "dim": Entry(f"{_SSL}.deep_infomax:DeepInfoMax", "features of a picture that its places tell, and a prior"),
    "st-dim": Entry(f"{_SSL}.st_dim:STDIM", "what a place shows one step later among what it shows in others"),
    "atc": Entry(f"{_SSL}.temporal_contrast:TemporalContrast", "what is seen some steps later in an episode"),
    "curl": Entry(f"{_SSL}.curl:CURL", "the other view of a picture, by a bilinear product"),
    "spr": Entry(f"{_SSL}.spr:SPR", "one's own features of the next steps, given the actions"),
    "byol": Entry(f"{_SSL}.byol:BYOL", "what a slowly moving teacher makes of the other view"),
    "simsiam": Entry(f"{_SSL}.simsiam:SimSiam", "what the same network makes of the other view, without teacher"),
    "swav": Entry(f"{_SSL}.swav:SwAV", "assignments of views to prototypes in equal shares"),
    "dino": Entry(f"{_SSL}.dino:DINO", "a teacher's centred and sharpened distribution of the other views"),
    "mae": Entry(f"{_SSL}.mae:MAE", "pixels of hidden patches, for vision transformers"),
    "bert": Entry(f"{_SSL}.masked_sequence:MaskedSequence", "hidden pictures and actions of a clip from the others"),
}


def method_class(name: str) -> Method:
    """The objective behind a registered name. Raises UnknownNameError."""
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    found: Method = METHODS[name].load()
    return found


_DETECTION = "rlkit.perception.detection"
DETECTORS: dict[str, Entry] = {
    "gru": Entry(f"{_DETECTION}.recurrent:GRUDetector", "a gated recurrent unit, the baseline of all others"),
    "lstm": Entry(f"{_DETECTION}.recurrent:LSTMDetector", "a long short-term memory, the same recipe"),
    "trn": Entry(f"{_DETECTION}.trn:TRNDetector", "a recurrent network that is told what it expects"),
    "idn": Entry(f"{_DETECTION}.idn:IDNDetector", "keeps of a window what has to do with its last frame"),
    "oadtr": Entry(f"{_DETECTION}.oadtr:OadTR", "a transformer that reads the last frames anew for each frame"),
    "oadtr-streaming": Entry(
        f"{_DETECTION}.streaming_oadtr:StreamingOadTR", "a causal transformer that computes each frame once"
    ),
    "lstr": Entry(f"{_DETECTION}.lstr:LSTR", "a long memory made into a few tokens, asked by the last frames"),
    "testra": Entry(f"{_DETECTION}.testra:TeSTra", "queries that ask the whole past, older frames count less"),
}


def detector_class(name: str) -> DetectorClass:
    """The detector behind a registered name. Raises UnknownNameError."""
    if name not in DETECTORS:
        raise UnknownNameError("detector", name, DETECTORS)
    found: DetectorClass = DETECTORS[name].load()
    return found


AUXILIARIES: dict[str, dict[str, Any]] = {
    "atc": {"steps": 1},
    "byol": {},
    "curl": {},
    "simclr": {},
    "simsiam": {},
    "spr": {"steps": 1, "heads": "linear"},  # values keep its features apart, as in its paper
}
"""Methods that serve beside an agent's own loss, with the options that fit pairs of successive pictures."""


def auxiliary(name: str, weight: float) -> Any:
    """The objective that `--aux` names, as agents take it. Raises UnknownNameError."""
    from rlkit.perception.ssl.auxiliary import AuxiliaryDesign

    if name not in AUXILIARIES:
        raise UnknownNameError("auxiliary objective", name, AUXILIARIES)
    method = method_class(name)
    return AuxiliaryDesign(method, method.Config(**AUXILIARIES[name]), weight)


def agent_class(name: str) -> type[Any]:
    """The class behind a registered name, `path/to/file.py:ClassName` or `module:ClassName`.

    Raises:
        UnknownNameError: no such name.
        UsageError: the file or module cannot be imported, has no such class, or the class is not an agent.
    """
    if name in AGENTS:
        registered: type[Any] = AGENTS[name].load()
        return registered
    if ":" not in name:
        raise UnknownNameError("agent", name, AGENTS, "or give your own as path/to/file.py:ClassName")
    source, _, attribute = name.rpartition(":")
    module_object = _module(source)
    found = vars(module_object).get(attribute)
    if not inspect.isclass(found):
        classes = [key for key, value in vars(module_object).items() if inspect.isclass(value)]
        raise UsageError(f"{source} has no class {attribute!r}{did_you_mean(attribute, classes)}; it has {classes}")
    _require_agent(found, name)
    return found


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        from rlkit.envs.locate import module_from_file

        return module_from_file(Path(name))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"cannot import the module {name!r}: {error}") from error


_COMMON = (
    "initial_carry",
    "reset_carry",
    "act",
    "policy_state",
    "load_policy_state",
    "training_state",
    "load_training_state",
)


def _require_agent(found: type[Any], name: str) -> None:
    """Say what is missing of the protocol before anything runs."""
    names = set(dir(found))
    needed = [*_COMMON, *(() if "train_on" in names else ("observe", "update"))]
    missing = [method for method in needed if method not in names]
    if missing:
        raise UsageError(
            f"{name} is not an agent: it has no {', '.join(missing)}. An agent has {', '.join(needed)}; "
            "docs/your-own-agent.md has an example of 60 lines."
        )


def config_class(agent: type[Any]) -> type[Any]:
    """The agent's `Config`, or an empty one for a class without."""
    from rlkit.config import AgentConfig

    config: type[Any] = vars(agent).get("Config") or next(
        (vars(base)["Config"] for base in agent.__mro__ if "Config" in vars(base)), AgentConfig
    )
    return config


def require_support(name: str, agent: type[Any], task: Any) -> None:
    """Stop before step 0 where the agent cannot serve the task, naming those that can.

    Raises:
        UnsupportedTaskError: with the reason.
    """
    if (task.encoder is not None or task.auxiliary is not None) and not issubclass(agent, TunesEncoder):
        able = ", ".join(name for name in AGENTS if issubclass(agent_class(name), TunesEncoder))
        raise UnsupportedTaskError(
            f"{name} has no encoder of its own for --finetune and --aux: leave it frozen, or take another agent\n"
            f"agents that can: {able}"
        )
    if "supports" not in dir(agent):  # a class of the user's own may leave it out
        return
    reason = agent.supports(task)
    if reason is not None:
        able = ", ".join(agents_for(task)) or "none of the registered agents"
        raise UnsupportedTaskError(f"{name} cannot serve this environment: {reason}.\nagents that can: {able}")


def agents_for(task: Any) -> list[str]:
    """Names of the registered agents that can serve the task."""
    return [name for name in AGENTS if agent_class(name).supports(task) is None]


def preset_files() -> dict[str, Path]:
    """Every preset by name."""
    folder = Path(str(resources.files("rlkit.configs")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def preset_for(agent: str, env: str | None) -> Path | None:
    """The preset whose `agent.name` is `agent` and whose `envs` holds `env`; None where there is none."""
    from rlkit.config import read_yaml

    for path in preset_files().values():
        data = read_yaml(path).data
        if data.get("agent", {}).get("name") == agent and env in data.get("envs", []):
            return path
    return None


def preset_named(name: str) -> Path:
    """The preset called `name`. Raises UnknownNameError."""
    files = preset_files()
    if name not in files:
        raise UnknownNameError("preset", name, [*files, "none"])
    return files[name]
