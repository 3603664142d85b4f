"""Jinja: an environment which knows the application, and rendering with its context."""

from __future__ import annotations

import typing as t
from collections import ChainMap
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

from jinja2 import BaseLoader, Environment as BaseEnvironment, Template, TemplateNotFound
from jinja2.runtime import Context, new_context

from .bridge import run_in_thread
from .globals import _cv_app, _cv_request, current_app, request
from .hooks import CONTEXT, ordered
from .overrides import find_override
from .signals import before_render_template, template_rendered
from .steps import THREAD, kind_of, settle, tell, tell_async
from .streaming import stream_with_context

if t.TYPE_CHECKING:
    from .app import Flask
    from .scaffold import Scaffold

TemplateSource = tuple[str, str | None, Callable[[], bool] | None]
TemplateName = str | Template


def _default_template_ctx_processor() -> dict[str, t.Any]:
    """The objects behind the proxies `g` and `request`, which templates then reach faster."""
    # Not the session: taking it counts as an access, which a template may never make.
    values: dict[str, t.Any] = {}
    if app_context := _cv_app.get(None):
        values["g"] = app_context.g
    if request_context := _cv_request.get(None):
        values["request"] = request_context.request
    return values


class _FlatTemplate(Template):
    """Its globals and the environment's are one dict by the time that Jinja copies them, which it does key by key."""

    def new_context(
        self, vars: dict[str, t.Any] | None = None, shared: bool = False, locals: t.Mapping[str, t.Any] | None = None
    ) -> Context:
        names: t.Any = self.globals
        if type(names) is ChainMap:
            names = {name: value for layer in reversed(names.maps) for name, value in layer.items()}
        return new_context(self.environment, self.name, self.blocks, vars, shared, names, locals)


class Environment(BaseEnvironment):
    """A Jinja environment which finds the templates of its application and of the blueprints."""

    template_class: type[Template] = _FlatTemplate

    def __init__(self, app: Flask, **options: t.Any) -> None:
        if "loader" not in options:
            options["loader"] = app.create_global_jinja_loader()
        super().__init__(**options)
        self.app = app


class DispatchingJinjaLoader(BaseLoader):
    """Asks the application's loader first, then the blueprints' in the order of their registration."""

    def __init__(self, app: Flask) -> None:
        self.app = app

    def get_source(self, environment: BaseEnvironment, template: str) -> TemplateSource:
        if self.app.config["EXPLAIN_TEMPLATE_LOADING"]:
            return self._get_source_explained(environment, template)
        return self._get_source_fast(environment, template)

    def _get_source_explained(self, environment: BaseEnvironment, template: str) -> TemplateSource:
        from .debughelpers import explain_template_loading_attempts

        attempts = [
            (loader, owner, _try_loader(loader, environment, template))
            for owner, loader in self._iter_loaders(template)
        ]
        explain_template_loading_attempts(self.app, template, attempts)
        return _choose_first((found for _, _, found in attempts), template)

    def _get_source_fast(self, environment: BaseEnvironment, template: str) -> TemplateSource:
        found = (_try_loader(loader, environment, template) for _, loader in self._iter_loaders(template))
        return _choose_first(found, template)

    def _iter_loaders(self, template: str) -> Iterator[tuple[Scaffold, BaseLoader]]:
        owner: Scaffold
        for owner in (self.app, *self.app.iter_blueprints()):
            loader = owner.jinja_loader
            if loader is not None:
                yield owner, loader

    def list_templates(self) -> list[str]:
        return list({name for _, loader in self._iter_loaders("") for name in loader.list_templates()})


def _try_loader(loader: BaseLoader, environment: BaseEnvironment, template: str) -> TemplateSource | None:
    try:
        return loader.get_source(environment, template)
    except TemplateNotFound:
        return None


def _choose_first(found: t.Iterable[TemplateSource | None], template: str) -> TemplateSource:
    for source in found:
        if source is not None:
            return source
    raise TemplateNotFound(template)


def _get_app() -> Flask:
    app: Flask = current_app if (ctx := _cv_app.get(None)) is None else ctx.app
    return app


def update_template_context(app: Flask, context: dict[str, t.Any]) -> None:
    """Add what context processors give; what is there already wins."""
    given = context.copy()
    ctx = _cv_request.get(None)
    blueprints = () if ctx is None else ctx.request.blueprints
    for f in ordered(t.cast(t.Any, app.template_context_processors), CONTEXT, blueprints):
        context.update(f() if f is _default_template_ctx_processor else app.ensure_sync(f)())
    context.update(given)


def _render(app: Flask, template: Template, context: dict[str, t.Any]) -> str:
    app.update_template_context(context)
    tell(app, before_render_template, template=template, context=context)
    text = template.render(context)
    tell(app, template_rendered, template=template, context=context)
    return text


def _stream(app: Flask, template: Template, context: dict[str, t.Any]) -> Iterator[str]:
    app.update_template_context(context)
    tell(app, before_render_template, template=template, context=context)
    chunks = _generate(app, template, context)
    return chunks if _cv_request.get(None) is None else stream_with_context(chunks)


def _generate(app: Flask, template: Template, context: dict[str, t.Any]) -> Iterator[str]:
    yield from template.generate(context)
    tell(app, template_rendered, template=template, context=context)


def render_template(template_name_or_list: TemplateName | list[TemplateName], **context: t.Any) -> str:
    """Render a template, or the first of a list which exists. TemplateNotFound where there is none."""
    app = _get_app()
    return _render(app, app.jinja_env.get_or_select_template(template_name_or_list), context)


def render_template_string(source: str, **context: t.Any) -> str:
    """Render a template given as its source."""
    app = _get_app()
    return _render(app, app.jinja_env.from_string(source), context)


def stream_template(template_name_or_list: TemplateName | list[TemplateName], **context: t.Any) -> Iterator[str]:
    """Render as chunks: an iterator for a response."""
    app = _get_app()
    return _stream(app, app.jinja_env.get_or_select_template(template_name_or_list), context)


def stream_template_string(source: str, **context: t.Any) -> Iterator[str]:
    """Render a template given as its source, as chunks."""
    app = _get_app()
    return _stream(app, app.jinja_env.from_string(source), context)


# Async: templates that await what they call

_ASYNC_TWIN = "_asyncflask_async_twin"


def _async_environment(app: Flask) -> BaseEnvironment:
    """The application's environment with Jinja's `enable_async`, and a cache of its own: compiled code differs.

    Loader, filters, tests, globals and options are shared.
    """
    environment = app.jinja_env
    twin: BaseEnvironment | None = vars(environment).get(_ASYNC_TWIN)
    if twin is None:
        # A cache of bytecode knows templates by their source alone, and would mix up the two kinds of code.
        twin = environment.overlay(enable_async=True, bytecode_cache=None)
        setattr(environment, _ASYNC_TWIN, twin)
    twin.auto_reload = environment.auto_reload  # `app.debug` sets it at any time
    return twin


async def _update_context_async(app: Flask, context: dict[str, t.Any]) -> None:
    """`app.update_template_context`, with async context processors awaited and sync ones called off the loop."""
    if find_override(app, "update_template_context") is not None:
        await run_in_thread(app.update_template_context, context)
        return
    given = context.copy()
    blueprints = request.blueprints if request else ()
    for f in ordered(t.cast(t.Any, app.template_context_processors), CONTEXT, blueprints):
        in_thread = f is not _default_template_ctx_processor and kind_of(f) is THREAD
        context.update(await settle(await run_in_thread(f) if in_thread else f()))
    context.update(given)


async def _render_async(app: Flask, template: Template, context: dict[str, t.Any]) -> str:
    await _update_context_async(app, context)
    await tell_async(app, before_render_template, template=template, context=context)
    text = await template.render_async(context)
    await tell_async(app, template_rendered, template=template, context=context)
    return text


async def _stream_async(app: Flask, template: Template, context: dict[str, t.Any]) -> AsyncIterator[str]:
    await _update_context_async(app, context)
    await tell_async(app, before_render_template, template=template, context=context)
    chunks = _generate_async(app, template, context)
    return chunks if _cv_request.get(None) is None else stream_with_context(chunks)


async def _generate_async(app: Flask, template: Template, context: dict[str, t.Any]) -> AsyncGenerator[str]:
    chunks: t.Any = template.generate_async(context)
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        await chunks.aclose()
    await tell_async(app, template_rendered, template=template, context=context)


async def render_template_async(template_name_or_list: TemplateName | list[TemplateName], **context: t.Any) -> str:
    """`render_template` for templates that call async functions, and for async context processors."""
    app = _get_app()
    return await _render_async(app, _async_environment(app).get_or_select_template(template_name_or_list), context)


async def render_template_string_async(source: str, **context: t.Any) -> str:
    app = _get_app()
    return await _render_async(app, _async_environment(app).from_string(source), context)


async def stream_template_async(
    template_name_or_list: TemplateName | list[TemplateName], **context: t.Any
) -> AsyncIterator[str]:
    """Render as chunks: awaited, it gives an async iterator for a response."""
    app = _get_app()
    return await _stream_async(app, _async_environment(app).get_or_select_template(template_name_or_list), context)


async def stream_template_string_async(source: str, **context: t.Any) -> AsyncIterator[str]:
    app = _get_app()
    return await _stream_async(app, _async_environment(app).from_string(source), context)
