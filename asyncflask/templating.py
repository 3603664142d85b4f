"""Jinja: an environment which knows the application, and rendering with its context."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterator

from jinja2 import BaseLoader, Environment as BaseEnvironment, Template, TemplateNotFound

from .globals import _cv_app, _cv_request, current_app
from .signals import before_render_template, template_rendered
from .streaming import stream_with_context

if t.TYPE_CHECKING:
    from blinker import NamedSignal

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


class Environment(BaseEnvironment):
    """A Jinja environment which finds the templates of its application and of the blueprints."""

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
    return t.cast("Flask", current_app._get_current_object())  # type: ignore[attr-defined]  # of the proxy


def _send(signal: NamedSignal, app: Flask, template: Template, context: dict[str, t.Any]) -> None:
    if signal.receivers:
        signal.send(app, _async_wrapper=app.ensure_sync, template=template, context=context)


def _render(app: Flask, template: Template, context: dict[str, t.Any]) -> str:
    app.update_template_context(context)
    _send(before_render_template, app, template, context)
    text = template.render(context)
    _send(template_rendered, app, template, context)
    return text


def _stream(app: Flask, template: Template, context: dict[str, t.Any]) -> Iterator[str]:
    app.update_template_context(context)
    _send(before_render_template, app, template, context)
    chunks = _generate(app, template, context)
    return chunks if _cv_request.get(None) is None else stream_with_context(chunks)


def _generate(app: Flask, template: Template, context: dict[str, t.Any]) -> Iterator[str]:
    yield from template.generate(context)
    _send(template_rendered, app, template, context)


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
