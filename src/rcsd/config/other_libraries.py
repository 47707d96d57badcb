"""Settings of other libraries, and what they are here: hints for those who move a run over."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

SETTINGS: Mapping[str, str] = {
    # Model
    "'model.path'": "TRL: model_name_or_path model_id; verl: model.path; OpenRLHF: pretrain",
    "'model.revision'": "TRL: model_revision",
    "'model.dtype'": "transformers: torch_dtype dtype model_dtype model_init_kwargs",
    "'precision'": "transformers: bf16 fp16 tf32 mixed_precision",
    "'model.attention'": "transformers: attn_implementation use_flash_attention_2 flash_attn",
    "'model.trust_remote_code'": "transformers: trust_remote_code",
    "'model.packing'": "TRL: packing padding_free packing_strategy; verl: use_remove_padding",
    "'model.activation_checkpointing'": (
        "transformers: gradient_checkpointing gradient_checkpointing_kwargs; TRL: "
        "activation_offloading; verl: enable_gradient_checkpointing"
    ),
    "'model.chat_template'": "TRL: chat_template chat_template_path",
    "'model.chat_template_kwargs' or 'views.student_kwargs'": (
        "TRL: chat_template_kwargs; transformers: enable_thinking reasoning_effort"
    ),
    "'model.training.rank'": "TRL: lora_r; peft: r; verl: lora_rank",
    "'model.training.alpha'": "TRL: lora_alpha",
    "'model.training.dropout'": "TRL: lora_dropout",
    "'model.training.target_modules'": "TRL: lora_target_modules; peft: target_modules",
    "'model.training.type', lora or full": "TRL: use_peft; peft: peft_config",
    # Data and prompts
    "'data.path'": (
        "TRL: dataset_name dataset; verl: train_files; open-instruct: dataset_mixer_list; "
        "OpenRLHF: prompt_data"
    ),
    "'evaluation.data'": (
        "TRL: eval_dataset; verl: val_files; open-instruct: dataset_mixer_eval_list"
    ),
    "'sampling.max_prompt_tokens'": (
        "TRL: max_prompt_length; verl: prompt_length; open-instruct: max_prompt_token_length; "
        "OpenRLHF: prompt_max_len"
    ),
    "'sampling.max_prompt_tokens' for prompts, 'sampling.max_tokens' for completions": (
        "TRL: max_length max_seq_length; vLLM: max_model_len vllm_max_model_length max_token_length"
    ),
    "'sampling.max_tokens'": (
        "TRL: max_completion_length; transformers: max_new_tokens; verl: max_response_length "
        "response_length; open-instruct: response_length; OpenRLHF: generate_max_len"
    ),
    "'views.templates'": "TRL: system_prompt reprompt_template teacher_prompt_template",
    # Length and batches
    "'steps'": "transformers: max_steps; verl: total_training_steps",
    "'steps' of 'examples_per_step' examples: an epoch is not counted": (
        "transformers: num_train_epochs; verl: total_epochs; open-instruct: total_episodes; "
        "OpenRLHF: num_episodes max_epochs num_epochs epochs"
    ),
    "'examples_per_step', over all processes": (
        "transformers: per_device_train_batch_size; verl: train_batch_size gen_batch_size; "
        "TRL: generation_batch_size; open-instruct: num_unique_prompts_rollout; OpenRLHF: "
        "rollout_batch_size batch_size"
    ),
    "'max_tokens_per_microbatch', which changes no gradient": (
        "transformers: gradient_accumulation_steps; verl: ppo_micro_batch_size use_dynamic_bsz "
        "ppo_micro_batch_size_per_gpu ppo_max_token_len_per_gpu log_prob_micro_batch_size_per_gpu; "
        "OpenRLHF: micro_train_batch_size"
    ),
    "'completions_per_example|num_samples'": (
        "TRL: num_generations; verl: rollout.n val_kwargs.n; open-instruct: "
        "num_samples_per_prompt_rollout; OpenRLHF: n_samples_per_prompt; transformers: "
        "num_return_sequences"
    ),
    "'seed'": "transformers: seed data_seed; verl: data.seed",
    # Sampling and engine
    "'sampling.temperature'": "TRL: temperature; verl: rollout.temperature",
    "'sampling.top_p'": "TRL: top_p; verl: rollout.top_p",
    "'sampling.top_k'": "TRL: top_k; verl: rollout.top_k",
    "'sampling.temperature', 'sampling.top_p', 'sampling.top_k'": "TRL: generation_kwargs",
    "'engine.type', vllm or vllm_server": (
        "TRL: use_vllm vllm_mode; verl: rollout.name; OpenRLHF: vllm_num_engines"
    ),
    "'engine.url'": "TRL: vllm_server_base_url vllm_server_host vllm_server_port",
    "'engine.kv_cache_gib'": (
        "vLLM: gpu_memory_utilization; TRL: vllm_gpu_memory_utilization; OpenRLHF: "
        "vllm_gpu_memory_utilization"
    ),
    "'engine.compiled'": "vLLM: enforce_eager; OpenRLHF: vllm_enforce_eager",
    "'engine.batch_size'": "vLLM: max_num_seqs; transformers: per_device_eval_batch_size",
    "'engine.stale.cap'": "TRL: vllm_importance_sampling_cap vllm_importance_sampling_clip_max",
    "'engine.max_lag_steps'": "OpenRLHF: async_train; open-instruct: async_steps",
    # Optimizer
    "'optim.lr'": "transformers: learning_rate lr; verl: optim.lr; OpenRLHF: actor_learning_rate",
    "'optim.warmup_steps'": (
        "transformers: warmup_ratio warmup_steps; verl: lr_warmup_steps lr_warmup_steps_ratio"
    ),
    "'optim.schedule'": (
        "transformers: lr_scheduler_type lr_scheduler lr_scheduler_kwargs; verl: warmup_style"
    ),
    "'optim.weight_decay'": "transformers: weight_decay",
    "'optim.betas'": "transformers: adam_beta1 adam_beta2; OpenRLHF: adam_betas",
    "'optim.eps'": "transformers: adam_epsilon",
    "'optim.max_grad_norm'": "transformers: max_grad_norm; verl: grad_clip",
    # Method
    "'method.type'": "verl: adv_estimator; OpenRLHF: advantage_estimator",
    "'method.kl_weight' of grpo, 'method.divergence.beta' of jsd": "TRL: beta",
    "'method.kl_weight'": (
        "TRL: init_kl_coef; verl: kl_coef kl_loss_coef use_kl_loss use_kl_in_reward"
    ),
    "'method.reduction'": "TRL: loss_type; verl: loss_agg_mode",
    "'method.normalise_by_deviation'": "TRL: scale_rewards; verl: norm_adv_by_std_in_grpo",
    "'method.updates_per_batch'": (
        "TRL: num_iterations steps_per_generation; verl: ppo_epochs ppo_mini_batch_size; "
        "open-instruct: num_mini_batches"
    ),
    "'method.clip_low' and 'method.clip_high'": (
        "TRL: epsilon cliprange; verl: clip_ratio; OpenRLHF: eps_clip"
    ),
    "'method.clip_low'": "verl: clip_ratio_low; open-instruct: clip_lower",
    "'method.clip_high'": "TRL: epsilon_high; verl: clip_ratio_high; open-instruct: clip_higher",
    "'method.rewards'": (
        "TRL: reward_funcs reward_weights; verl: reward_model custom_reward_function; "
        "OpenRLHF: reward_pretrain remote_rm_url; open-instruct: apply_verifiable_reward"
    ),
    "'method.divergence.type'": "TRL: distillation_mode distillation_alpha seq_kd",
    "'method.support.k'": "TRL: distillation_topk loss_top_k",
    "'method.support.outside', tail": "TRL: distillation_add_tail loss_add_tail",
    "'teacher.type', ema, and 'teacher.decay'": (
        "TRL: sync_ref_model ref_model_mixup_alpha ref_model_sync_steps teacher_sync_steps "
        "teacher_update_rate teacher_model_kind"
    ),
    # Run
    "'out'": "transformers: output_dir; verl: default_local_dir; OpenRLHF: save_path ckpt_path",
    "'save_every_steps'": (
        "transformers: save_steps save_strategy; verl: save_freq; open-instruct: "
        "checkpoint_state_freq"
    ),
    "'keep_checkpoints'": (
        "transformers: save_total_limit; verl: max_actor_ckpt_to_keep; OpenRLHF: max_ckpt_num"
    ),
    "'evaluation.every_steps'": (
        "transformers: eval_steps eval_strategy evaluation_strategy; verl: test_freq; "
        "open-instruct: local_eval_every"
    ),
    "'evaluation.early_stop'": (
        "transformers: early_stopping_patience load_best_model_at_end metric_for_best_model"
    ),
    "'trackers'": (
        "transformers: report_to run_name; verl: logger project_name experiment_name; "
        "open-instruct: with_tracking; OpenRLHF: use_wandb wandb_project"
    ),
    "'processes.sharding'": (
        "transformers: fsdp fsdp_config deepspeed; verl: fsdp_config strategy; OpenRLHF: zero_stage"
    ),
    "'processes.timeout_seconds'": "transformers: ddp_timeout; verl: nccl_timeout",
    # No setting here
    "none; 'rcsd train --processes N' or torchrun says so": (
        "verl: nnodes n_gpus_per_node; transformers: num_processes; TRL: "
        "vllm_tensor_parallel_size; OpenRLHF: vllm_tensor_parallel_size actor_num_nodes; vLLM: "
        "tensor_model_parallel_size tensor_parallel_size"
    ),
    "none; 'rcsd train --resume' goes on": (
        "transformers: resume_from_checkpoint; verl: resume_mode"
    ),
    "none, since every step is logged": "transformers: logging_steps logging_strategy log_interval",
    "none, since all completions are kept": "TRL: log_completions num_completions_to_print",
    "none, since completions that were cut off count like others": (
        "TRL: mask_truncated_completions; open-instruct: mask_truncated_completions; verl: "
        "overlong_buffer overlong_filter"
    ),
    "none, since completions alone are learned": (
        "TRL: completion_only_loss assistant_only_loss; transformers: remove_unused_columns"
    ),
    "none, since samples are the policy's own": (
        "TRL: min_p repetition_penalty vllm_importance_sampling_correction generate_from_teacher "
        "lmbda; transformers: presence_penalty frequency_penalty"
    ),
    "none, since the teacher is the same model in another view": (
        "TRL: teacher_model_name_or_path teacher_model_init_kwargs use_teacher_server; verl: "
        "ref.model.path"
    ),
    "none, since a group's mean is the baseline, without a critic": (
        "verl: critic gamma lam; OpenRLHF: lambd critic_learning_rate; TRL: vf_coef"
    ),
    "none, since data is shuffled in every epoch": "TRL: shuffle_dataset; verl: data.shuffle",
    "none, since the optimizer is AdamW": "transformers: optim_args optim_target_modules",
    "none, since quantised models are not trained": (
        "transformers: load_in_4bit load_in_8bit quantization_config bnb_4bit_quant_type"
    ),
    "none, since the loss never holds the logits of all positions": (
        "TRL: use_liger_kernel use_liger_loss; verl: use_fused_kernels"
    ),
    "none; upload the folder of the model": "transformers: push_to_hub hub_model_id hub_strategy",
    "none": (
        "transformers: torch_compile dataloader_num_workers neftune_noise_alpha; TRL: use_dora "
        "use_rslora importance_sampling_level top_entropy_quantile delta; verl: entropy_coeff"
    ),
    "sections of other names, such as 'model', 'method', 'optim', 'sampling'": (
        "verl: actor_rollout_ref algorithm trainer"
    ),
}
"""Text with keys of ours in quotes (``|``: the one that is there), and the names of libraries."""

KEYS = re.compile(r"'([\w.|]+)'")
_ROWS = [
    (text, library.strip(), names.split())
    for text, row in SETTINGS.items()
    for library, _, names in (part.partition(": ") for part in row.split(";"))
]


def hints(name: str, value: Any, key_here: Callable[[Sequence[str]], str]) -> list[str]:
    """Hints at settings of other libraries: at a key, or at those of the tree below it.

    ``key_here`` spells the first of several keys of ours from where the unknown one stands.
    """
    below = [hint for path in _leaves(name, value) if (hint := _hint(path, key_here))]
    return below or [hint for hint in [_hint(name, key_here)] if hint]


def _hint(path: str, key_here: Callable[[Sequence[str]], str]) -> str:
    steps = path.split(".")
    for start in range(len(steps)):
        written = ".".join(steps[start:])
        rows = [(text, library) for text, library, names in _ROWS if written in names]
        if rows:
            libraries = ", ".join(dict.fromkeys(library for _, library in rows))
            texts = "; ".join(dict.fromkeys(text for text, _ in rows))
            here = KEYS.sub(lambda match: f"'{key_here(match[1].split('|'))}'", texts)
            return f"unknown setting {path} ({libraries}); here: {here}"
    return ""


def _leaves(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name
