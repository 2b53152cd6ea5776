"""The equations of `rlkit.ops` that linear learners use besides those of `rlkit.tabular.rules`, compiled once."""

from __future__ import annotations

from rlkit.ops import features, gradient_td, linear_systems
from rlkit.tabular.compiled import compiled, compiled_apart

unit_coordinate = compiled(features.unit_coordinate)
cell_of = compiled(features.cell_of)
wrapped_cell = compiled(features.wrapped_cell)
tile_coordinate = compiled(features.tile_coordinate)
mixed_hash = compiled(features.mixed_hash)
fourier_value = compiled(features.fourier_value)
polynomial_value = compiled(features.polynomial_value)
squared_distance = compiled(features.squared_distance)
radial_value = compiled(features.radial_value)
sparse_dot = compiled(features.sparse_dot)
sparse_add = compiled(features.sparse_add)
sparse_add_rated = compiled(features.sparse_add_rated)

correction_error = compiled(gradient_td.correction_error)
tdc_amounts = compiled(gradient_td.tdc_amounts)
gtd2_amounts = compiled(gradient_td.gtd2_amounts)
followon = compiled(gradient_td.followon)

solve_in_place = compiled_apart(linear_systems.solve_in_place)
