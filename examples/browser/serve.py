"""Pages of one's own beside the documents: http://127.0.0.1:8080/textarea.html and /codemirror.html.

python examples/browser/serve.py FOLDER
"""

import sys
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from egwalker.hub import Place
from egwalker.transports.aiohttp import local_only, setup
from egwalker.transports.file import FileTransport

PAGES = Path(__file__).parent


def make_app(folder: Path) -> web.Application:
    async def open_place(name: str) -> Place:
        return await FileTransport().place(f"file:{quote(str(folder / name))}.egw", "text")

    app = web.Application()
    # With the page: it is at /documents/, and its modules, which these pages use, are below /documents/-/.
    setup(app, open_place, prefix="/documents", authenticate=local_only, page=True)
    app.router.add_static("/", PAGES)
    return app


if __name__ == "__main__":
    web.run_app(make_app(Path(sys.argv[1])), host="127.0.0.1", port=8080)
