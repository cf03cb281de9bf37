#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# install.sh OUT: inside the Debian folder, build the extension into OUT, validate it, install it into OUT/blender.
set -eu
out=$1
export BLENDER_USER_RESOURCES=$out/blender
mkdir -p "$BLENDER_USER_RESOURCES" "$out/engine"
blender --command extension build --source-dir /shared/blender_addon --output-dir "$out"
blender --command extension validate "$out"/tweed-*.zip
blender --command extension install-file -r user_default -e "$out"/tweed-*.zip
touch "$out/engine/__init__.py"
echo "import runpy; runpy.run_path('/shared/tests/fake_engine.py', run_name='__main__')" > "$out/engine/__main__.py"
