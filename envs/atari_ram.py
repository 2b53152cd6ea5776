"""Where Atari games keep what their pictures show: bytes of the console's RAM by game, category and variable.

From the Atari Annotated RAM Interface (Anand et al. 2019, https://arxiv.org/abs/1906.08226, section 4), as it is at
https://github.com/mila-iqia/atari-representation-learning, commit a06f52c, `atariari/benchmark/ram_annotations.py`:
the 22 games of the paper, and battle_zone and skiing, which came later. Games have ale-py's names, variables have
AtariARI's; several bytes under one name are told apart as name_0, name_1, …. Categories are the paper's five, given by
a variable's name in `categorization.py` there; what that leaves out (the colours of Q*bert's tiles, for one) is
`miscellaneous` here, and what it puts into two is in one (the lives of asteroids, with a direction in the same byte).

Bytes are what the game computes with, not always what a person would read: scores are binary coded decimals, and
coordinates may wrap around. They belong to the cartridges that ale-py ships, whose frames are 210×160 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

Category: TypeAlias = Literal["agent", "small_object", "other_object", "display", "miscellaneous", "motion"]
"""What a variable tells of.

Where the agent is; where a small object is (ball, missile); where another one is; score, clock, lives and meters on
display; anything else. `motion`, which AtariARI does not have, is what a single picture cannot show: velocities.
"""

Bytes: TypeAlias = Mapping[Category, Mapping[str, int | Sequence[int]]]

ATARI_RAM: Mapping[str, Bytes] = {
    "asteroids": {
        "agent": {"player_x": 73, "player_y": 74},
        "small_object": {
            "player_missile_x1": 83, "player_missile_x2": 84, "player_missile_y1": 86, "player_missile_y2": 87
        },
        "other_object": {
            "enemy_asteroids_x": (*range(21, 28), *range(30, 38)),
            "enemy_asteroids_y": (*range(3, 10), *range(12, 20)),
        },
        "display": {"num_lives_direction": 60, "player_score_high": 61, "player_score_low": 62},
        "miscellaneous": {"player_missile1_direction": 89, "player_missile2_direction": 90},
    },
    "battle_zone": {
        "small_object": {"missile_y": 105},
        "other_object": {"blue_tank_x": 48, "blue_tank_size_y": 47, "blue_tank2_x": 54, "blue_tank2_size_y": 53},
        "display": {"num_lives": 58, "score": 29},
        "miscellaneous": {
            "angle_of_tank": 4, "blue_tank_facing_direction": 46, "blue_tank2_facing_direction": 52,
            "compass_needles_angle": 84, "crosshairs_color": 108, "left_tread_position": 59, "right_tread_position": 60,
        },
    },
    "berzerk": {
        "agent": {"player_x": 19, "player_y": 11},
        "small_object": {
            "player_missile_x": 22, "player_missile_y": 23, "robot_missile_x": 29, "robot_missile_y": 30
        },
        "other_object": {
            "enemy_evilOtto_x": 46, "enemy_evilOtto_y": 89,
            "enemy_robots_x": range(65, 73), "enemy_robots_y": range(56, 65),
        },
        "display": {"num_lives": 90, "player_score": range(93, 96)},
        "miscellaneous": {
            "game_level": 92, "player_direction": 14, "player_missile_direction": 21, "robot_missile_direction": 26,
            "robots_killed_count": 91,
        },
    },
    "bowling": {
        "agent": {"player_x": 29, "player_y": 40},
        "small_object": {"ball_x": 30, "ball_y": 41},
        "display": {"frame_number_display": 36, "score": 33},
        "miscellaneous": {"pin_existence": range(57, 67)},
    },
    "boxing": {
        "agent": {"player_x": 32, "player_y": 34},
        "other_object": {"enemy_x": 33, "enemy_y": 35},
        "display": {"clock": 17, "enemy_score": 19, "player_score": 18},
    },
    "breakout": {
        "agent": {"player_x": 72},
        "small_object": {"ball_x": 99, "ball_y": 101},
        "display": {"score": 84},
        "miscellaneous": {"block_bit_map": range(30), "blocks_hit_count": 77},
    },
    "demon_attack": {
        "agent": {"player_x": 22},
        "small_object": {"missile_y": 21},
        "other_object": {
            "enemy_x1": 17, "enemy_x2": 18, "enemy_x3": 19, "enemy_y1": 69, "enemy_y2": 70, "enemy_y3": 71
        },
        "display": {"num_lives": 114},
        "miscellaneous": {"level": 62},
    },
    "freeway": {
        "agent": {"player_y": 14},
        "other_object": {"enemy_car_x": range(108, 118)},
        "display": {"score": 103},
    },
    "frostbite": {
        "agent": {"player_x": 102, "player_y": 100},
        "other_object": {
            "enemy_bear_x": 104, "enemy_x": range(84, 88), "top_row_iceflow_x": 34, "second_row_iceflow_x": 33,
            "third_row_iceflow_x": 32, "fourth_row_iceflow_x": 31,
        },
        "display": {"num_lives": 76, "score": range(72, 75)},
        "miscellaneous": {"igloo_blocks_count": 77, "player_direction": 4},
    },
    "hero": {
        "agent": {"player_x": 27, "player_y": 31},
        "display": {"power_meter": 43, "score": (56, 57)},
        "miscellaneous": {"dynamite_count": 50, "level_number": 117, "room_number": 28},
    },
    "montezuma_revenge": {
        "agent": {"player_x": 42, "player_y": 43},
        "other_object": {"enemy_skull_x": 47, "enemy_skull_y": 46, "key_monster_x": 44, "key_monster_y": 45},
        "display": {"num_lives": 58, "score_0": 19, "score_1": 20, "score_2": 21},
        "miscellaneous": {
            "items_in_inventory_count": 61, "level": 57, "player_direction": 52, "room_number": 3, "room_state": 62
        },
    },
    "ms_pacman": {
        "agent": {"player_x": 10, "player_y": 16},
        "other_object": {
            "enemy_sue_x": 6, "enemy_inky_x": 7, "enemy_pinky_x": 8, "enemy_blinky_x": 9,
            "enemy_sue_y": 12, "enemy_inky_y": 13, "enemy_pinky_y": 14, "enemy_blinky_y": 15,
            "fruit_x": 11, "fruit_y": 17,
        },
        "display": {"num_lives": 123, "player_score": 120},
        "miscellaneous": {"dots_eaten_count": 119, "ghosts_count": 19, "player_direction": 56},
    },
    "pitfall": {
        "agent": {"player_x": 97, "player_y": 105},
        "other_object": {"bottom_of_rope_y": 18, "enemy_logs_x": 98, "enemy_scorpion_x": 99},
        "display": {"clock_min": 88, "clock_sec": 89},
    },
    "pong": {
        "agent": {"player_x": 46, "player_y": 51},
        "small_object": {"ball_x": 49, "ball_y": 54},
        "other_object": {"enemy_x": 45, "enemy_y": 50},
        "display": {"enemy_score": 13, "player_score": 14},
    },
    "private_eye": {
        "agent": {"player_x": 63, "player_y": 86},
        "other_object": {"dove_x": 48, "dove_y": 39},
        "display": {"clock": (67, 69), "score": (73, 74)},
        "miscellaneous": {"player_direction": 58, "room_number": 92},
    },
    "qbert": {
        "agent": {"player_x": 43, "player_y": 67, "player_column": 35},
        "other_object": {"green_enemy_column": 105, "red_enemy_column": 69},
        "display": {"score": range(89, 92)},
        # rows of 1, 2, … 6 tiles
        "miscellaneous": {
            "tile_color": (21, 52, 54, *range(83, 88, 2), *range(98, 105, 2), *range(1, 10, 2), *range(32, 43, 2))
        },
    },
    "riverraid": {
        "agent": {"player_x": 51},
        "small_object": {"missile_x": 117, "missile_y": 50},
        "display": {"fuel_meter_high": 55, "fuel_meter_low": 56},
    },
    "seaquest": {
        "agent": {"player_x": 70, "player_y": 97},
        "small_object": {"diver_or_enemy_missile_x": range(71, 75), "player_missile_x": 103},
        "other_object": {"enemy_obstacle_x": range(30, 34)},
        "display": {"num_lives": 59, "oxygen_meter_value": 102, "score": (57, 58)},
        "miscellaneous": {"divers_collected_count": 62, "player_direction": 86, "player_missile_direction": 87},
    },
    "skiing": {
        "agent": {"player_x": 25},
        "other_object": {"object_y": range(87, 94)},  # object_y_0 is the topmost one on the screen
        "display": {"clock_m": 104, "clock_s": 105, "clock_ms": 106, "score": 107},
    },
    "space_invaders": {
        "agent": {"player_x": 28},
        "small_object": {"missiles_y": 9},
        "other_object": {"enemies_x": 26, "enemies_y": 24},
        "display": {"num_lives": 73, "player_score": 104},
        "miscellaneous": {"invaders_left_count": 17},
    },
    "tennis": {
        "agent": {"player_x": 26, "player_y": 24},
        "small_object": {"ball_x": 16, "ball_y": 17},
        "other_object": {"enemy_x": 27, "enemy_y": 25},
        "display": {"enemy_score": 70, "player_score": 69},
    },
    "venture": {
        "agent": {"player_x": 85, "player_y": 26},
        "other_object": {
            "sprite0_x": 79, "sprite1_x": 80, "sprite2_x": 81, "sprite3_x": 82, "sprite4_x": 83, "sprite5_x": 84,
            "sprite0_y": 20, "sprite1_y": 21, "sprite2_y": 22, "sprite3_y": 23, "sprite4_y": 24, "sprite5_y": 25,
        },
        "display": {"num_lives": 70, "score_1_2": 71, "score_3_4": 72},
        "miscellaneous": {"current_room": 90},
    },
    "video_pinball": {
        "agent": {"player_left_paddle_y": 98, "player_right_paddle_y": 102},
        "small_object": {"ball_x": 67, "ball_y": 68},
        "display": {"score_1": 48, "score_2": 50},
    },
    "yars_revenge": {
        "agent": {"player_x": 32, "player_y": 31},
        "small_object": {
            "enemy_missile_x": 47, "enemy_missile_y": 46, "player_missile_x": 38, "player_missile_y": 37
        },
        "other_object": {"enemy_x": 43, "enemy_y": 42},
    },
}  # fmt: skip


def ram_bytes(game: str) -> dict[str, int]:
    """Number of the byte of each variable `category/name` of a game in `ATARI_RAM`.

    >>> ram_bytes("hero")["display/score_1"]
    57
    """
    found: dict[str, int] = {}
    for category, variables in ATARI_RAM[game].items():
        for name, place in variables.items():
            if isinstance(place, int):
                found[f"{category}/{name}"] = place
            else:
                found |= {f"{category}/{name}_{number}": byte for number, byte in enumerate(place)}
    return found
