"""Everything that komt-local raises on purpose, as one tree:

    KomtError                   one sentence that names the offender and the remedy
    ├── UsageError              the call itself cannot be right (exit status 2)
    │   ├── TemplateError       no such template, or a chat template that cannot be rendered
    │   └── BadReference        a model's name that cannot be read as one
    ├── ModelError              a model that is not here, or cannot be used
    │   ├── ModelNotFound       nothing under that reference
    │   ├── InvalidModel        a file that is not a whole, sane GGUF
    │   ├── LibraryError        the list of models cannot be read or written
    │   └── DownloadError       a model that could not be brought here
    │       ├── GatedError      a licence to accept first, or a token that is missing
    │       └── OfflineError    it is not here, and the network was not to be used
    ├── ContextOverflow         more tokens than the context holds
    ├── OutOfMemory             this machine does not hold what was asked for
    ├── EngineError             llama.cpp reported a failure while it ran
    ├── AnswerError             an answer that is not of the form that was asked for
    ├── SessionError            a dialogue that cannot be kept, or read back
    └── Closed                  the model was used after it was closed

Every error carries its sentence in English and in Korean; `str()` gives the English one, and the
command line picks by locale. The conversion package has a tree of the same shape of its own
(`komt_convert.errors`), because it knows nothing of this one.
"""

from __future__ import annotations


class KomtError(Exception):
    """A failure that a user can read: one sentence in English (`str`) and one in Korean (`ko`)."""

    exit_status = 1

    def __init__(self, en: str, ko: str) -> None:
        super().__init__(en)
        self.ko = ko


class UsageError(KomtError):
    """Something asked for cannot be right, whatever the model."""

    exit_status = 2


class TemplateError(UsageError):
    """An unknown template, or a chat template that cannot be rendered for these messages."""


class BadReference(UsageError):
    """What should name a model is neither a path, a repository, an address nor an alias."""


class ModelError(KomtError):
    """A model that is not here, or cannot be used."""


class ModelNotFound(ModelError):
    """Nothing lies under that reference."""


class InvalidModel(ModelError):
    """The file is not a whole, sane GGUF that llama.cpp can run."""


class LibraryError(ModelError):
    """The list of models on this machine cannot be read or written."""


class DownloadError(ModelError):
    """A model could not be brought here; what did come is kept, and the next try goes on."""


class GatedError(DownloadError):
    """The repository wants its licence accepted, or a token that may read it."""


class OfflineError(DownloadError):
    """The model is not on this machine, and offline was asked for."""


class ContextOverflow(KomtError):
    """A prompt that does not fit the context.

    `prompt_tokens` and `n_ctx` are both in tokens.
    """

    def __init__(self, prompt_tokens: int, n_ctx: int) -> None:
        super().__init__(
            f"The prompt has {prompt_tokens:,} tokens and the context holds {n_ctx:,}; "
            "shorten the prompt, or give a larger context with -c/--ctx-size (n_ctx).",
            f"프롬프트는 {prompt_tokens:,}토큰인데 컨텍스트에는 {n_ctx:,}토큰만 들어갑니다. "
            "프롬프트를 줄이거나 -c/--ctx-size(n_ctx)로 컨텍스트를 늘리세요.",
        )
        self.prompt_tokens = prompt_tokens
        self.n_ctx = n_ctx


class OutOfMemory(KomtError):
    """This machine's memory does not hold what was asked for."""


class EngineError(KomtError):
    """llama.cpp reported a failure while it ran."""


class AnswerError(KomtError):
    """The model's answer is not of the form that was asked for."""


class SessionError(KomtError):
    """A dialogue on the disk cannot be read or written."""


class Closed(KomtError):
    """The model, or its engine, was used after it was closed."""

    def __init__(self) -> None:
        super().__init__(
            "This model is closed; load it again with Model.load(...).",
            "이미 닫힌 모델입니다. Model.load(...)로 다시 여세요.",
        )
